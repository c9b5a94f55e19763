"""What is the whole answer, and can I show it?"""

from stackelberg.report.auditing import audit
from stackelberg.report.finding import BatchFinding, Plan, audit_batch
from stackelberg.report.merging import Contradiction, Subject, merge
from stackelberg.report.page import compare
from stackelberg.report.records import Report, schema

__all__ = [
    "BatchFinding",
    "Contradiction",
    "Plan",
    "Report",
    "Subject",
    "audit",
    "audit_batch",
    "compare",
    "merge",
    "schema",
]
