"""A child process for tests: the agent's own synthesiser on a disk that loses a bit of one model's weights.

It is that of the shape in $WEIGHIN_TEST_DAMAGED. The bit turns over after the model was written, before it is read.
"""

import os

from weighin_agent.bench import synthesiser
from weighin_agent.bench.job import Job
from weighin_analysis.measurement import Case

synthesise = synthesiser._synthesise


def damage(job: Job) -> Case:
    made = synthesise(job)
    if made.architecture.name == os.environ["WEIGHIN_TEST_DAMAGED"]:
        with (job.folder / "layers.data").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            (last,) = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 1]))
    return made


if __name__ == "__main__":
    synthesiser._synthesise = damage
    synthesiser.main()
