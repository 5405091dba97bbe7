"""Words for the codes of a snapshot."""

from weighin_analysis.card import Verdict

# In a table, for what does not apply.
ABSENT = "–"
# Beneath counts on a page whose shares are weighted to a population.
NOT_WEIGHTED = "Counted by device, not weighted to the population."
# In place of a tier.
NO_TIER = "no class"
# The CSS names of the verdicts.
TONES = {
    Verdict.COMFORTABLE: "comfortable",
    Verdict.USABLE: "usable",
    Verdict.TOO_SLOW: "too-slow",
    Verdict.DOES_NOT_FIT: "does-not-fit",
}


def words(code: str) -> str:
    """Return a code as people say it."""
    return code.replace("_", " ")


def verdict_words(verdict: Verdict) -> str:
    """Return a verdict as people say it."""
    return words(verdict)
