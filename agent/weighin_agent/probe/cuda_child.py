"""Child process: opens the CUDA device of the runtime and prints what it is as one line of JSON.

Apart from the agent because it loads the driver and libraries of hundreds of megabytes.
"""

from weighin_agent.probe.provider_report import print_report

if __name__ == "__main__":
    print_report("cuda")
