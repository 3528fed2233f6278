"""The page in a browser: offline, without errors; it sorts, filters, folds, explains and prints."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from report.browser import BROWSER, NONE, look, print_to
from report.stored import NASTY, clock, records
from tables.clocked import store, timing

from bench.records import Store
from bench.report import render
from bench.tables import published

pytestmark = pytest.mark.skipif(not BROWSER, reason=NONE)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    records(folder / "runs")
    clock(folder / "runs")
    store(folder / "runs", timing(1.1, batch=1, device="other machine", profile="quick", dataset=NASTY))
    return render(published(), [("runs", folder / "runs")], folder / "out", highlight="vared/r2plus1d_18")[1]


SORT = """
const table = document.querySelector("#table1 table.sortable");
const head = (name) => [...table.querySelectorAll("thead th")].find((th) => th.textContent.startsWith(name));
const column = () => [...table.tBodies].map((body) => body.rows[0].cells[body.rows[0].cells.length - 6].textContent);
const measured = () => [...table.tBodies].map((body) => body.querySelector("tr[data-key] b")?.textContent ?? "");
seen.before = [column(), measured()];
const button = head("GFLOPs avg").querySelector("button");
seen.states = [head("GFLOPs avg").getAttribute("aria-sort")];
for (const order of ["ascending", "descending", "none"]) {
  button.focus(); button.click();
  seen[order] = [column(), measured()];
  seen.states.push(head("GFLOPs avg").getAttribute("aria-sort"));
}
const mute = (th) => th.textContent.trim() && !th.querySelector("button");
seen.heads = [...table.querySelectorAll("thead th")].filter(mute).length;
const records = [...document.querySelectorAll("#settings table.sortable")][0];
const cost = [...records.querySelectorAll("thead th")].findIndex((th) => th.textContent.includes("GFLOPs"));
records.querySelectorAll("thead th")[cost].querySelector("button").click();
seen.records = [...records.tBodies[0].rows].map((row) => row.cells[cost].textContent);
"""

FILTER = """
const shown = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.getClientRects().length).length;
const form = document.getElementById("filters");
const set = (name, value) => {
  form.elements[name].value = value;
  form.elements[name].dispatchEvent(new Event("change", { bubbles: true }));
};
const state = () => ({
  measured: shown("tr.measured[data-block]"), lines: shown("#comparison tbody"), timings: shown("#speed tr[data-key]"),
  table8: shown("#table8"), hash: location.hash, told: form.querySelector("output").textContent,
});
const options = (name) => [...form.elements[name].options].map((option) => option.value);
seen.options = Object.fromEntries(["block", "method", "machine"].map((name) => [name, options(name)]));
for (const details of document.querySelectorAll("#speed details")) details.open = true;
seen.all = state();
set("method", "r2plus1d_18"); seen.static = state();
set("method", ""); set("machine", seen.options.machine.find((name) => name.startsWith("other")));
seen.machine = state();
form.reset(); seen.again = state();
"""

FOLD = """
const shown = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.getClientRects().length).length;
const button = document.querySelector("#table1 .fold");
seen.folded = [shown("#table1 tbody.unrun"), button.textContent, button.getAttribute("aria-expanded")];
button.click();
seen.open = [shown("#table1 tbody.unrun"), button.textContent, button.getAttribute("aria-expanded")];
const parts = [...document.querySelectorAll("section.table")].map((one) => [...one.querySelectorAll("table.folded")]);
const [first, second] = parts.find((tables) => tables.filter((one) => one.querySelector("tbody.unrun")).length > 1);
second.querySelector("tbody.unrun").id = "probe";
location.hash = "#probe";
await wait(100);
seen.revealed = [first, second].map((one) => one.matches(".folded"));
location.hash = "";
await wait(100);
"""

TIP = """
const tip = document.getElementById("tip");
const links = [...document.querySelectorAll("#table1 a.source")];
seen.before = tip.hidden;
links[0].focus();
const described = links[0].getAttribute("aria-describedby") === tip.id;
seen.focus = [tip.hidden, tip.textContent, tip.getAttribute("role"), described];
document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
seen.escaped = tip.hidden;
links[0].click();
seen.clicked = [tip.hidden, location.hash];
document.querySelector("h1").click();
seen.away = tip.hidden;
const cell = links[0].closest("tr").querySelector("td");
cell.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
await wait(500);
seen.hover = [tip.hidden, tip.querySelector("b").textContent];
seen.markup = document.querySelectorAll("#tip script, #tip i, main dd script").length;
"""

FRAGMENT = """
const form = document.getElementById("filters");
const go = async (hash) => {
  location.hash = hash;
  await wait(100);
  return [form.elements.method.value, location.hash];
};
seen.given = await go("#table1&method=r2plus1d_18");
seen.kept = await go("#table2");
seen.foreign = await go("#%22%3E%3Cscript%3E&method=gone&block=%E0%A4%A");
form.reset();
"""

OBSERVER = """
window.IntersectionObserver = class {
  constructor(call, { rootMargin }) {
    Object.assign(this, { call, parts: [], share: 1 + parseFloat(rootMargin.split(" ")[2]) / 100 });
    window.watching = this;
  }
  observe(part) { this.parts.push(part); }
  look() {
    this.call(this.parts.map((target) => {
      const { top, bottom } = target.getBoundingClientRect();
      return { target, isIntersecting: top <= this.share * innerHeight && bottom >= 0 };
    }));
  }
};
"""
"""The browser's own, but asked: where time is not real a browser may draw no frame between two places."""

CONTENTS = """
const at = (id) => {
  document.getElementById(id).scrollIntoView();
  watching.look();
  return [...document.querySelectorAll("nav a[aria-current]")].map((link) => link.hash);
};
seen.parts = ["summary", "comparison", "table1", "table2", "table10", "table1", "summary"].map((id) => [id, at(id)]);
"""

FETCH = """
await fetch("https://example.org/").then(() => { seen.got = true; }, () => { seen.got = false; });
await wait(100);
seen.breaches = faults.splice(0).filter((fault) => fault.startsWith("policy: "));
"""

WIDTH = """
document.documentElement.style.width = "390px";
const free = [...document.querySelectorAll("body *")].filter((e) => !e.closest(".scroll, nav ol, [hidden], svg"));
seen.over = free.filter((e) => e.getBoundingClientRect().right > 391).map((e) => e.outerHTML.slice(0, 200));
seen.nav = getComputedStyle(document.querySelector("nav")).position;
document.querySelector("details.figure").open = true;
dispatchEvent(new Event("resize"));
seen.told = [...document.querySelectorAll(".scroll, figure")].filter((e) => e.clientWidth)
  .map((e) => [e.scrollWidth > e.clientWidth + 1, getComputedStyle(e, "::before").content !== "none"]);
seen.picture = document.querySelector("figure svg").getBoundingClientRect().width;
"""

STEPS = {
    "sort": SORT,
    "filter": FILTER,
    "fold": FOLD,
    "tip": TIP,
    "fragment": FRAGMENT,
    "fetch": FETCH,
}


@pytest.fixture(scope="module")
def seen(page: Path) -> dict[str, Any]:
    """What every step saw, one after the other in one window."""
    steps = [
        f"seen.{name} = await (async (seen) => {{ {script} return seen; }})({{}});" for name, script in STEPS.items()
    ]
    return clean(look(page, "".join(steps)))


def clean(seen: dict[str, Any]) -> dict[str, Any]:
    """No exception, no word on the console, no breach of the policy, nothing loaded."""
    assert seen["faults"] == [] and seen["requests"] == []
    return seen


def numbers(texts: list[str]) -> list[float]:
    return [float(found[0]) for text in texts if (found := re.match(r"[\d.]+", text))]


def test_sorting_is_by_number_and_what_is_measured_comes_first(seen: dict[str, Any]) -> None:
    seen = seen["sort"]
    assert seen["states"] == ["none", "ascending", "descending", "none"] and seen["heads"] == 0
    print_order, measured_order = seen["before"]
    assert seen["none"] == [print_order, measured_order]
    for order, sign in (("ascending", 1), ("descending", -1)):
        printed, measured = seen[order]
        ran = [bool(text) for text in measured]
        assert ran == sorted(ran, reverse=True) and sum(ran) == 2
        values = numbers(measured)
        assert values == sorted(values, key=lambda value: sign * value) and len(set(values)) == 2
        rest = numbers(printed[2:])
        assert rest == sorted(rest, key=lambda value: sign * value) and max(rest) > 100 > min(rest)
    assert numbers(seen["records"]) == sorted(numbers(seen["records"])) and len(seen["records"]) == 9


def test_a_cell_over_several_columns_is_in_each_of_them(tmp_path: Path) -> None:
    records(tmp_path)
    _, one = next(iter(Store(tmp_path)))
    smoke = one.identity.model_copy(update={"profile": "smoke"})
    Store(tmp_path).write(one.model_copy(update={"identity": smoke, "protocol": {"smoke": True}, "samples_file": None}))
    page = render(published(), [("runs", tmp_path)], tmp_path / "out", "table1")[1]
    script = """
    const table = document.querySelector("#data table.sortable");
    const heads = [...table.querySelectorAll("thead th")];
    const column = (at) => [...table.tBodies[0].rows].map((row) => [...row.cells].at(at).textContent);
    const seeds = heads.findIndex((head) => head.textContent.startsWith("records"));
    for (const order of ["ascending", "descending"]) {
      heads[seeds].querySelector("button").click();
      seen[order] = column(seeds - heads.length);
    }
    const first = heads.findIndex((head) => head.textContent.includes("holds"));
    heads[first].querySelector("button").click();
    seen.last = column(first);
    """
    seen = look(page, script)
    assert (seen["ascending"], seen["descending"]) == (["10", "90"], ["90", "10"])
    assert seen["last"][1] == "smoke: no verdict"


def test_filters_hide_and_show_again_and_stand_in_the_fragment(seen: dict[str, Any]) -> None:
    seen = seen["filter"]
    assert seen["options"]["block"][0] == "" and "r2plus1d_18" in seen["options"]["method"]
    assert len(seen["options"]["machine"]) >= 3
    assert seen["all"]["measured"] > seen["static"]["measured"] > 0
    assert seen["static"]["lines"] == 1 and seen["all"]["lines"] == 2
    assert seen["static"]["hash"] == "#method=r2plus1d_18" and "measured rows" in seen["static"]["told"]
    assert seen["all"]["timings"] > seen["machine"]["timings"] > 0
    assert seen["static"]["table8"] == 0 and seen["all"]["table8"] == 1
    assert seen["again"] == seen["all"] | {"hash": ""}


def test_a_fragment_sets_filters_and_place_and_foreign_values_do_no_harm(seen: dict[str, Any]) -> None:
    assert seen["fragment"]["given"] == ["r2plus1d_18", "#table1&method=r2plus1d_18"]
    assert seen["fragment"]["kept"] == ["r2plus1d_18", "#table2&method=r2plus1d_18"]
    assert seen["fragment"]["foreign"][0] == ""


def test_what_was_not_run_is_folded_and_unfolds(seen: dict[str, Any]) -> None:
    seen = seen["fold"]
    hidden, shows, expanded = seen["folded"]
    assert hidden == 0 and expanded == "false" and shows.startswith("Show")
    shown, hides, expanded = seen["open"]
    assert shown > 3 and expanded == "true" and hides == shows.replace("Show", "Hide") and str(shown) in shows
    assert seen["revealed"] == [True, False]


def test_tooltips_show_by_keyboard_touch_and_hover(seen: dict[str, Any]) -> None:
    seen = seen["tip"]
    assert seen["before"] and seen["escaped"] and seen["away"]
    hidden, text, role, described = seen["focus"]
    assert not hidden and role == "tooltip" and described
    assert all(word in text for word in ("seeds", "0, 1, 2", NASTY, "quick", "records", "r2plus1d_18-8f-s0", "clips"))
    assert seen["clicked"] == [False, ""]
    assert seen["hover"][0] is False and "GFLOPs" in seen["hover"][1]
    assert seen["markup"] == 0


def test_the_contents_mark_the_one_part_that_is_being_read(page: Path) -> None:
    seen = clean(look(page, CONTENTS, before=OBSERVER))
    assert seen["parts"] == [[id, [f"#{id}"]] for id, _ in seen["parts"]] and len(seen["parts"]) == 7


def test_nothing_runs_off_a_telephone(page: Path) -> None:
    seen = clean(look(page, WIDTH, width=500))
    assert seen["over"] == [] and seen["nav"] == "sticky"
    assert {wide for wide, _ in seen["told"]} == {True, False} and all(wide == told for wide, told in seen["told"])
    assert seen["picture"] > 390


def test_in_print_everything_is_unfolded(page: Path, tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    short = render(published(), [("runs", page.parents[1] / "runs")], tmp_path, "table1")[1]
    print_to(short, tmp_path / "page.pdf")
    reader = pypdf.PdfReader(tmp_path / "page.pdf")
    text = unicodedata.normalize("NFKC", " ".join(sheet.extract_text() for sheet in reader.pages))
    text = " ".join(text.split())
    assert all(word in text for word in ("110.5", "not run:", "first verdict", "fingerprint", "2.13.0", "GFLOPs avg"))
    assert "r2plus1d_18-8f-s0" in text and "show all" not in text


def test_without_the_script_everything_is_there(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    bare = tmp_path / "bare.html"
    bare.write_text(re.sub(r"<script>.*?</script>", "", text, flags=re.S), encoding="utf-8")
    script = FOLD.partition("const button")[0] + 'seen.shown = [shown("#table1 tbody.unrun"), shown("#filters")];'
    unfolded, form = clean(look(bare, script))["shown"]
    assert unfolded > 3 and form == 0


def test_the_policy_forbids_every_request(page: Path, seen: dict[str, Any]) -> None:
    """And names no address that would load: links lead into the page or to the figures beside it."""
    text = page.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy and "default-src 'none'" in policy[1] and "'unsafe-eval'" not in policy[1]
    assert re.search(r"script-src 'sha256-[\w+/=]{44}';", policy[1])
    assert text.count("<script") == 1 and not re.search(
        r"""(?:src|srcset|data)=["'](?!data:)""", text.partition("<script>")[0]
    )
    assert not re.search(r"""@import|url\((?!#)|<(?:link|iframe|object|embed|form[^>]+action)""", text)
    assert seen["fetch"]["got"] is False and seen["fetch"]["breaches"] == ["policy: connect-src"]
