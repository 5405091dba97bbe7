"""Child process: imports ONNX Runtime and prints its version and execution providers as one line of JSON.

Apart from the agent because the import itself can end the process: version 1.21.0 dies with an illegal instruction
on a Raspberry Pi 4.
"""

import json
import sys

if __name__ == "__main__":
    import onnxruntime

    facts = {"version": onnxruntime.__version__, "execution_providers": onnxruntime.get_available_providers()}
    sys.stdout.write("\n" + json.dumps(facts) + "\n")
