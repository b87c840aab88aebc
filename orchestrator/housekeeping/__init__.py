"""Retention: what a store need not keep any longer, by a policy, and what refers to the rest.

from orchestrator.housekeeping import Policy, run

report = run(open_objects("s3://bucket/prefix"), Policy(failed_days=3), delete=True)
"""

from orchestrator.housekeeping.plan import Item, Plan, plan
from orchestrator.housekeeping.policy import Policy, parse_policy
from orchestrator.housekeeping.work import Report, run

__all__ = ["Item", "Plan", "Policy", "Report", "parse_policy", "plan", "run"]
