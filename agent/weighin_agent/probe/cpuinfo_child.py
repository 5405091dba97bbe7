"""Child process: asks py-cpuinfo for the processor's name and flags and prints them as one line of JSON.

Apart from the agent because py-cpuinfo starts processes of its own, may wait for them for ever, and runs the main
program again when it is packaged.
"""

import json
import sys

if __name__ == "__main__":
    import cpuinfo

    # Keys are missing on processors that it does not know.
    facts = cpuinfo.get_cpu_info()
    answer = {"model": facts.get("brand_raw"), "flags": facts.get("flags")}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
