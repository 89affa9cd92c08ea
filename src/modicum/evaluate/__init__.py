"""Measuring: metrics with intervals, calibration, baselines, and the verdict against labels-only training."""

from __future__ import annotations
