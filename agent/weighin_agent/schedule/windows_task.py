"""A task for the Windows Task Scheduler ("Task Scheduler Schema" of its documentation).

The schema fixes the order of elements within a trigger alone; everywhere else any order will do.
"""

import subprocess
from collections.abc import Mapping, Sequence
from typing import TypeAlias
from xml.etree import ElementTree as ET

TASK_NAME = "weighin-agent"
NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
# A nested mapping is a nested element.
_Elements: TypeAlias = Mapping[str, "str | _Elements"]


def task_xml(command: Sequence[str], encoding: str) -> str:
    """Return the task that runs ``command`` every hour for the user who makes it, while logged in and on mains power.

    Priority 7 is below normal, for processor, disk and memory. No password is stored.
    """
    program, *arguments = command
    task: _Elements = {
        "RegistrationInfo": {"Description": "Weigh this device in, if it is due, idle and on mains power"},
        "Triggers": {
            "TimeTrigger": {
                "StartBoundary": "2026-01-01T00:00:00",
                "Repetition": {"Interval": "PT1H"},
                "RandomDelay": "PT45M",
            }
        },
        "Principals": {"Principal": {"LogonType": "InteractiveToken", "RunLevel": "LeastPrivilege"}},
        "Settings": {
            "MultipleInstancesPolicy": "IgnoreNew",
            "DisallowStartIfOnBatteries": "true",
            "StopIfGoingOnBatteries": "true",
            "StartWhenAvailable": "true",
            "ExecutionTimeLimit": "PT15M",
            "Priority": "7",
        },
        "Actions": {"Exec": {"Command": program, "Arguments": subprocess.list2cmdline(arguments)}},
    }
    root = ET.Element("Task", {"version": "1.2", "xmlns": NAMESPACE})
    _fill(root, task)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="{encoding.upper()}"?>\n{text}\n'


def _fill(parent: ET.Element, elements: _Elements) -> None:
    for name, content in elements.items():
        element = ET.SubElement(parent, name)
        if isinstance(content, str):
            element.text = content
        else:
            _fill(element, content)
