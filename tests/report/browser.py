"""A page in a headless browser: what a script that is added to a copy of it saw there, and what it prints."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
NONE = "no Chromium on this machine"

_QUIET = ("--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run", "--no-sandbox")

_BEFORE = """
window.faults = [];
addEventListener("error", (event) => faults.push(`error: ${event.message}`));
addEventListener("unhandledrejection", (event) => faults.push(`rejection: ${event.reason}`));
addEventListener("securitypolicyviolation", (event) => faults.push(`policy: ${event.violatedDirective}`));
for (const kind of ["error", "warn"]) console[kind] = (...given) => faults.push(`${kind}: ${given.join(" ")}`);
"""

_AFTER = """
addEventListener("load", async () => {
  const seen = {};
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  try { await (async () => { %s })(); } catch (error) { faults.push(`test: ${error.stack}`); }
  seen.faults = faults;
  seen.requests = performance.getEntriesByType("resource").map((entry) => entry.name);
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
"""


def look(page: Path, script: str, fragment: str = "", width: int = 1280, before: str = "") -> dict[str, Any]:
    """Opens a copy of `page`, runs `script` (which fills the object `seen`) after loading, and gives what it saw.

    before: runs before the page's own script.

    Beside that, "faults": exceptions, console errors and warnings and breaches of the page's policy; "requests": what
    the page loaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "page.html")
        copy.write_text(
            _with_scripts(page.read_text(encoding="utf-8"), _BEFORE + before, _AFTER % script), encoding="utf-8"
        )
        dom = _run(
            folder,
            "--dump-dom",
            "--virtual-time-budget=4000",
            f"--window-size={width},900",
            f"{copy.as_uri()}{fragment}",
        )
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.S)
    assert found, dom[-2000:]
    return dict(json.loads(html.unescape(found[1])))


def print_to(page: Path, pdf: Path) -> None:
    """Prints the page to a PDF."""
    with tempfile.TemporaryDirectory() as folder:
        _run(folder, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri())


def _with_scripts(page: str, before: str, after: str) -> str:
    """With one script before all others and one after, both allowed by the page's policy."""
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in (before, after))
    page = page.replace("script-src ", f"script-src {allowed} ", 1)
    page = page.replace("<title>", f"<script>{before}</script><title>", 1)
    head, _, tail = page.rpartition("</body>")
    return f"{head}<script>{after}</script></body>{tail}"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _run(folder: str, *arguments: str) -> str:
    command = [BROWSER, "--headless", *_QUIET, f"--user-data-dir={folder}/profile", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
