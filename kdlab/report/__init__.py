"""Comparing runs without a network: read run directories, select, compare, show. Imports no torch."""

from kdlab.report.pick import select
from kdlab.report.read import Record, record, records
from kdlab.report.setting import differing, swept

__all__ = ["Record", "differing", "record", "records", "select", "swept"]
