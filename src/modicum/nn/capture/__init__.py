"""Where a network looks: one captured pass for all methods, layers and targets, of any torch module."""

from modicum.nn.capture.layout import Layout
from modicum.nn.capture.maps import Maps, explain
from modicum.nn.capture.targets import Finer

__all__ = ["Finer", "Layout", "Maps", "explain"]
