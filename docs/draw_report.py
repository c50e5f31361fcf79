"""The picture of a report, taken by Chromium. The scores of a short training differ most:

sortednet train --preset digits-resnet --set train.updates=30 --out runs/short
python -m docs.draw_report runs/short    # writes docs/images/report.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from sortednet_cli import engine
from sortednet_cli.engine import ReportRequest
from tests.browser import chromium, open_page, resize

PICTURE = Path(__file__).parent / "images" / "report.png"
WIDTH, HEIGHT = 1180, 1130
LIMIT = 60
"""The step of the slider for multiply-adds, of one for each sub-model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    with TemporaryDirectory() as folder, chromium() as driver:
        page = engine.report(ReportRequest((run,), out=Path(folder, "report.html")))
        resize(driver, WIDTH, HEIGHT)
        open_page(driver, page)
        driver.execute_script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            driver.find_element("id", "limit-macs"),
            LIMIT,
        )
        driver.execute_async_script("views.scatter.runAsync().then(() => arguments[0]())")
        driver.save_screenshot(str(PICTURE))


if __name__ == "__main__":
    main()
