"""Take the picture of a report that the documentation shows: its first screen, in an installed Chromium.

`weighin-analysis import tests/data/throughput.csv --out public` makes the fleet of docs/report.png, `weighin-analysis
report --snapshot public --out public-report` its report; this takes public-report/index.html and docs/report.png.
"""

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1180, 1330


def main() -> int:
    """Take the picture; return 1 where there is no Chromium."""
    parser = argparse.ArgumentParser(description="Take the picture of the first screen of a report.")
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        print("report_picture: Chromium is not installed", file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(options.page.resolve().as_uri())
        page.screenshot(path=options.picture)
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
