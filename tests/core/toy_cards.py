"""Small cards for the planner's tests: name, role, needs ('|' = any of), makes, cost, traits, least counts.

They stand for well-known methods but decide nothing about the real ones, whose cards may change.
"""

from __future__ import annotations

from modicum.core.card import Card

_ROWS = """
supervised        learn   image class:some|probs:some|probs:some~  net:class        1    full,soft
knn-probe         learn   image class:some net:features            net:class        0.5  few
fixmatch          learn   image class:some                         net:class        6    few             class=1
flexmatch         learn   image class:some                         net:class        6    few,tail        class=1
softmatch         learn   image class:some                         net:class        6    few,tail        class=4
mean-teacher      learn   image class:some                         net:class        6    few
logit-adjust      learn   image class                              net:class        1    tail
dividemix         learn   image class                              net:class        6    noisy
simclr            learn   image                                    net:features     5    none
supervised-tags   learn   image tags:some                          net:tags         1    -
majority          label   votes                                    class:some~      0    crowd
dawid-skene       label   votes                                    probs:some~      0.1  crowd
cam               explain image tags net:tags                      maps             0.2  -
grad-cam          explain image tags net:tags                      maps             0.3  -
layer-cam         explain image tags net:tags                      maps             0.3  tiny
eigen-cam         explain image tags net:tags                      maps             0.2  -
bas               learn   image tags                               net:tags,maps    2    -
toco              learn   image tags                               net:tags,maps    4    -
map-to-mask       label   tags maps                                masks~           0.1  -
affinity          label   image tags maps                          masks~           1    -
map-to-box        label   tags maps                                boxes~           0.1  -
unet              learn   image masks                              net:masks        2    full
unet-noisy        learn   image masks~                             net:masks        2    noisy
unet-semi         learn   image masks:some                         net:masks        5    few
scribble-net      learn   image scribbles                          net:masks        2    -
box-mask          learn   image boxes                              net:instances    3    -
point-net         label   image points                             instances~       2    -
mask-rcnn         learn   image instances                          net:instances    3    -
mask-rcnn-noisy   learn   image instances~                         net:instances    3    noisy
selective-search  label   image                                    proposals        0.2  -
wsddn             learn   image tags proposals                     net:boxes        3    -            tags=20
oicr              learn   image tags proposals                     net:boxes        4    -
mist              learn   image tags proposals                     net:boxes        4    -
lbba-adjust       learn   image tags@other boxes@other             net:boxes.adjust 3    -            boxes@other=50
lbba              learn   image tags proposals net:boxes.adjust    net:boxes        5    -
w2n               learn   image tags boxes~                        net:boxes        8    noisy
fcos              learn   image boxes                              net:boxes        2    full
soft-teacher      learn   image boxes:some                         net:boxes        5    few
imaginary         label   names                                    image,tags       3    none
entropy           score   image net:class                          scores           0.1  -
k-centre          select  image net:features                       ids              0.1  -
prune             change  image net:class                          net:class.small  1    -
distil            learn   image net:class.logits                   net:class.small  2    -
ema               wrap    net:class                                net:class        0    -
dann              learn   image image@source class@source          net:class        3    -
shot              learn   image net:class@source                   net:class        2    -
icarl             learn   image class net:class@old class:some@old net:class        3    -
"""


def _card(row: str) -> Card:
    name, role, *middle = row.split()
    cost_at = next(i for i, w in enumerate(middle) if w[0].isdigit())
    needs, makes, suits = middle[: cost_at - 1], middle[cost_at - 1], middle[cost_at + 1]
    least = dict(w.split("=") for w in middle[cost_at + 2 :])
    return Card(
        title=name, role=role, idea="A toy.", name=name,
        needs=tuple(tuple(n.split("|")) if "|" in n else n for n in needs), makes=tuple(makes.split(",")),
        cost=float(middle[cost_at]), suits=() if suits == "-" else tuple(suits.split(",")),
        least={k: int(v) for k, v in least.items()},
    )  # fmt: skip


CARDS = {c.name: c for c in map(_card, _ROWS.strip().splitlines())}
