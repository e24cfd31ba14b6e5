"""What the audit of a recipe can end in, beside what a run can."""


class AuditImpossible(Exception):
    """There is nothing to audit: no stage for such rows, or no row that can be spoiled."""
