"""The tool in a real JupyterLab: label, rank anew, restart the kernel, go on, write.

With `$HCS_SCREENSHOTS` set to a folder, pictures of each stage are left there.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect, sync_playwright

from hcs_utils.data import image_quality, qc_crops, quality, store
from hcs_utils.data.labels import LabelFile
from hcs_utils.data.screens import simulated

WAIT = 60_000  # ms, for a kernel on a busy machine
CELLS = (
    "import pandas as pd\n"
    "from hcs_utils import ten_labels\n"
    "from hcs_utils.data import qc_crops, store\n"
    "from hcs_utils.ten_labels_widget import panel\n"
    "session = ten_labels.begin('labels', qc_crops.read('crops.zarr'),"
    " pd.read_parquet('measures.parquet'))",
    "tool = panel(session, store.open_store('crops.zarr'), 'screen')\ntool.box",
)


@pytest.fixture(scope="module")
def folder(places, tmp_path_factory):
    """Where JupyterLab works."""
    return tmp_path_factory.mktemp("lab")


def fill(folder: Path) -> None:
    """What the notebook finds: crops of the smallest screen, measures, a folder for the flags."""
    root = simulated.home("qc-smoke")
    simulated.draw(root, simulated.SIZES["qc-smoke"])
    qc_crops.cut(simulated.manifest(root), root, folder / "crops.zarr", progress=False)
    images = store.open_store(folder / "crops.zarr")
    found = image_quality.measures(images.read(np.arange(len(images))), images.channels)
    found.to_parquet(folder / "measures.parquet")
    (folder / "screen").mkdir()
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in CELLS]
    notebook.metadata["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python"
    }  # fmt: skip
    nbformat.write(notebook, folder / "tool.ipynb")


@pytest.fixture(scope="module")
def truth(folder, server):
    crops = qc_crops.read(folder / "crops.zarr")
    found = qc_crops.truth(crops, simulated.home("qc-smoke"))
    return pd.Series(found["abnormal"].to_numpy(), crops["site_id"])


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """The address of a JupyterLab of its own, which asks nothing and reports to nobody."""
    own = tmp_path_factory.mktemp("jupyter")
    settings = own / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(own / "config"), "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"), "IPYTHONDIR": str(own / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"), "OMP_NUM_THREADS": "1",
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"), "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": str(Path(qc_crops.__file__).parents[2]),
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.ip=127.0.0.1",
    ]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.extension_manager=readonly", "--LabApp.news_url="]
    log = (own / "log.txt").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        fill(folder)  # while it starts
        wait_for(address, process, own / "log.txt")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def wait_for(address: str, process: subprocess.Popen, log: Path, seconds: int = 120) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/api/status", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not answer in {seconds} s:\n{log.read_text()}")


@pytest.fixture(scope="module")
def page(server):
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no browser on this machine (chromium, chromium-browser, google-chrome)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 1500})
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.goto(f"{server}/lab/tree/tool.ipynb?reset")
        expect(page.locator(".jp-Notebook .jp-CodeCell")).to_have_count(2, timeout=WAIT)
        yield page
        browser.close()


def shot(page, name: str) -> None:
    if os.environ.get("HCS_SCREENSHOTS"):
        target = Path(os.environ["HCS_SCREENSHOTS"]) / f"{name}.png"
        page.screenshot(path=target, full_page=True)


def run_all(page) -> None:
    """From the menu, as anybody would; waits until the tool stands there and the kernel rests."""
    menu(page, "Run", "Run All Cells")
    expect(page.get_by_role("button", name="Next crops")).to_be_visible(timeout=WAIT)
    expect(pictures(page).first).to_be_visible(timeout=WAIT)


def menu(page, bar: str, item: str) -> None:
    page.get_by_role("menuitem", name=bar, exact=True).click()
    page.get_by_role("menuitem", name=re.compile(rf"^{re.escape(item)}(…|$|\s)")).first.click()


def pictures(page):
    return page.locator(".jp-OutputArea-output img[alt^='Crop ']")


def shown(page) -> list[str]:
    return [image.get_attribute("title") for image in pictures(page).all()]


def answer_set(page, truth) -> list[str]:
    """Click an answer for each crop that is shown; waits until others take their place."""
    sites = shown(page)
    for k, site in enumerate(sites):
        label = "Abnormal" if truth[site] else "Normal"
        page.get_by_role("button", name=re.compile(rf"^{label}( ✓)?$")).nth(k).click()
        if k < len(sites) - 1:
            chosen = page.get_by_role("button", name=re.compile("✓$"))
            expect(chosen).to_have_count(k + 1, timeout=WAIT)
    expect(page.get_by_role("button", name=re.compile("✓$"))).to_have_count(0, timeout=WAIT)
    expect(page.locator(f"img[title='{sites[0]}']")).to_have_count(0, timeout=WAIT)
    return sites


def test_label_rank_restart_go_on_map_and_write(page, folder, truth):
    run_all(page)
    first = shown(page)
    assert len(first) == 6 and "fewer labels (0)" in page.locator(".jp-Notebook").inner_text()
    shot(page, "1-first")

    # label, by mouse; each click is on the disk before the next
    labels = LabelFile(folder / "labels" / "labels.csv")
    asked = answer_set(page, truth)
    table = labels.table().set_index("site_id")["label"]
    assert asked == first == table.index.tolist()
    assert table.eq("abnormal").tolist() == truth[asked].tolist()
    second = shown(page)
    assert not set(second) & set(first)  # ranked anew
    answer_set(page, truth)
    map_ = page.locator("img[alt^='Heat map']")
    expect(map_).to_be_visible(timeout=WAIT)
    assert map_.evaluate("i => i.complete && i.naturalWidth > 600")
    expect(page.get_by_text("12 answers")).to_be_visible(timeout=WAIT)

    # a click is undone by the other button
    third = shown(page)
    page.get_by_role("button", name=re.compile("^Normal")).nth(2).click()
    expect(page.get_by_role("button", name="Normal ✓")).to_have_count(1, timeout=WAIT)
    page.get_by_role("button", name=re.compile("^Abnormal")).nth(2).click()
    expect(page.get_by_role("button", name="Abnormal ✓")).to_have_count(1, timeout=WAIT)
    assert labels.table().set_index("site_id")["label"][third[2]] == "abnormal"
    shot(page, "2-labelled")

    # by keys alone: Tab goes from one button to the next, Space answers
    button = page.get_by_role("button", name=re.compile("^Normal")).nth(0)
    button.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.title") == "Crop 1 is abnormal"
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Abnormal ✓")).to_have_count(2, timeout=WAIT)
    assert len(labels.table()) == 14

    # restart: the answers are there, and it goes on with other crops
    before = labels.table()
    menu(page, "Kernel", "Restart Kernel and Clear Outputs of All Cells")
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    expect(pictures(page)).to_have_count(0, timeout=WAIT)
    run_all(page)
    expect(page.get_by_text("14 answers")).to_be_visible(timeout=WAIT)
    again = shown(page)
    assert not set(again) & set(before["site_id"])
    pd.testing.assert_frame_equal(labels.table(), before)
    expect(page.locator("img[alt^='Heat map']")).to_be_visible(timeout=WAIT)
    answer_set(page, truth)
    expect(page.get_by_text("20 answers")).to_be_visible(timeout=WAIT)

    # write what the list says
    page.get_by_role("button", name="Write to the screen").click()
    said = page.get_by_text(re.compile(r"Written to quality.parquet .* fields are flagged"))
    expect(said).to_be_visible(timeout=WAIT)
    count, of = map(int, re.search(r"(\d+) of (\d+) fields", said.inner_text()).groups())
    expect(page.get_by_text(f"To drop: {count} of {of} fields")).to_be_visible(timeout=WAIT)
    found = quality.read(folder / "screen")
    assert (found["qc_flag"].sum(), len(found)) == (count, of) and 0 < count < of
    shot(page, "3-written")
