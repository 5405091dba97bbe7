"""Child process: opens the adapter of the WebGPU plugin and prints what it is as one line of JSON.

Apart from the agent because it loads drivers, which may crash or hang; the plugin itself ends the process where no
driver suits it.
"""

from weighin_agent.probe.provider_report import print_report

if __name__ == "__main__":
    print_report("webgpu")
