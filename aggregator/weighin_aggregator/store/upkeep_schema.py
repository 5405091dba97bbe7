"""Tables of the store's own upkeep. Private: no snapshot holds any of it."""

# `unerased`: rows were deleted whose bytes are still in the file. A copy of the store has neither.
UPKEEP_TABLES = """
CREATE TABLE unerased(delete_time TIMESTAMP NOT NULL);

CREATE TABLE backup(create_time TIMESTAMP NOT NULL, run_count BIGINT NOT NULL);
"""
