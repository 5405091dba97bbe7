"""The judgements of weighin. The core needs numpy only; `report` and the command need the extra [report]."""
