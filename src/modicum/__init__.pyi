"""What `modicum.VERB` is, for type checkers: the module itself imports a verb only when it is used."""

from modicum.core.registry import cards as methods
from modicum.data.samples import sample as sample
from modicum.deploy.predict import predict as predict
from modicum.engine.demo import demo as demo
from modicum.engine.explain import explain as explain
from modicum.engine.fit import fit as fit
from modicum.engine.look import plan as plan
from modicum.engine.look import scan as scan
from modicum.engine.verbs import evaluate as evaluate
from modicum.engine.verbs import export as export
from modicum.engine.verbs import label as label
from modicum.engine.verbs import report as report
from modicum.engine.verbs import score as score
from modicum.engine.verbs import select as select
from modicum.testing import check_method as check

__version__: str
__all__ = [
    "check", "demo", "evaluate", "explain", "export", "fit", "label", "methods", "plan", "predict", "report", "scan",
    "score", "select",
]  # fmt: skip
