"""The report: whole, alone, honest about what is missing; and, in a real browser, within the edges of the screen."""

import html
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tests.report.made import curved, kl, study, sweep
from windtunnel import records
from windtunnel.records.groups import gather
from windtunnel.report.figures import kl_pictures
from windtunnel.report.geometry import geometry_picture
from windtunnel.report.page import command, report, write
from windtunnel.report.style import COLOURS, VARIABLES, inline

HELD = [{"kl_bits": value, "kl_bits_past": 3 * value, "extrapolation_ratio": 4.0, "censored": True,
         "train_seconds": 9.0} for value in (1e-3, 1.1e-3, 1.2e-3)]  # fmt: skip
FAILS = [{**value, "critical_length": None, "extrapolation_ratio": None, "censored": None, "verdict": "fails in range"}
         for value in kl(0.2, 0.21, 0.22)]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six studies done, one failed, one not begun, and one folder that is not there at all."""
    root = sweep(
        tmp_path_factory.mktemp("runs") / "trial", {"bam": [*HELD, {"error": "the loss was not finite"}], "rope": FAILS}
    )
    sweep_record = records.read_json(root / "sweep.json")
    overrides = {"position": "rope", "seed": "3"}
    sweep_record["points"].append({"study_id": "nowhere", "overrides": overrides})
    records.write_json(
        root / "sweep.json", {**sweep_record, "question": "Which <prior> & why?", "commands": ["windtunnel run x"]}
    )
    return curved(root)


@pytest.fixture(scope="module")
def page(root):
    write(root)
    return (root / "report.html").read_text()


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.ids, self.references = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag in ("script", "link", "img", "iframe", "object", "embed", "audio", "video"):
            self.loads.append(tag)
        if tag == "a":
            self.links.append(values["href"])
        elif values.get("href", "").startswith("#") or tag == "use":
            self.references.append(values["href"][1:])
        self.references += re.findall(r"url\(#([^)]+)\)", " ".join(value or "" for value in values.values()))
        self.ids += [values["id"]] if "id" in values else []


def test_the_page_needs_nothing_but_itself(root, page):
    """No script, style, font or picture from elsewhere; links go to records and figures that exist."""
    read = Reader(page)
    assert read.loads == []
    assert not re.search(r"@import|url\((?!#)|https?://(?!www\.w3\.org/)|//[a-z]+\.", page.replace("&#34;", '"'))
    assert read.links and all((root / link).exists() for link in read.links)


def test_no_two_pictures_share_a_name(page):
    read = Reader(page)
    assert len(read.ids) == len(set(read.ids))
    assert set(read.references) <= set(read.ids) and read.references


def test_the_verdict_stands_on_top_in_words_and_numbers(page):
    text = html.unescape(re.sub(r"<[^>]+>", "", page[page.index("<main>") :]))
    top = text[: text.index("The numbers")]
    assert "Which <prior> & why?" in top
    assert "bam: exact to at least 4 × the horizon; rope: fails in range." in top
    assert "≥ 4 ×" in top and "1.1e-3 [8.7e-4, 1.4e-3] bits from the exact posterior" in top
    assert top.index("≥ 4 ×") < top.index("Above τ = 0.01 inside the horizon already"), "best first"
    assert "Past the horizon: bam is 2.1 bits below rope" in top and "p = 0.25" in top
    assert "windtunnel run x" in text and "training, all studies" in text


def test_what_is_missing_is_said(page):
    assert "positionbam-seed3 failed: the loss was not finite" in page
    assert "1 of 8 studies are not done yet" in page
    assert "no key geometry: windtunnel probe" in page
    assert "no learned prior" not in page and "no example sequence" not in page


def test_figures_are_files_too_and_the_same_each_time(root, page):
    names = {path.name for path in (root / "figures").iterdir()}
    for name in ("kl_against_length", "learning", "convergence", "priors", "attention-bam", "attention-rope"):
        assert {f"{name}.svg", f"{name}.pdf"} <= names
    before = {path: path.read_bytes() for path in (root / "figures").iterdir()}
    write(root)
    assert (root / "report.html").read_text() == page
    for path, content in before.items():
        assert path.read_bytes() == content, path.name
        if path.suffix == ".svg":
            ElementTree.fromstring(content)


def test_inside_the_page_colours_follow_light_and_dark(page):
    style, body = page.split("</style>")
    assert not [colour for colour in COLOURS[:6] if colour.lower() in body.lower()]
    for variable in VARIABLES.values():
        assert style.count(f"{variable[4:-1]}:") == 2, f"{variable} has a light and a dark value"


def test_two_knobs_make_a_map(tmp_path):
    root = sweep(tmp_path / "a", {})
    points = []
    for noise in ("0.1", "0.2"):
        for beta in ("0.5", "1", "2"):
            overrides = {"tunnel.noise": noise, "position.beta": beta}
            result = None if (noise, beta) == ("0.2", "2") else kl(float(noise) * float(beta))[0]
            points.append({"study_id": study(root, overrides, result), "overrides": overrides})
    records.write_json(root / "sweep.json", {"points": points, "fixed": {}})
    names = [path.name for path in write(curved(root))]
    assert "heatmap.svg" in names
    page = (root / "report.html").read_text()
    assert "KL past the horizon, over tunnel.noise and position.beta" in page and ">2.0<" in page


def test_every_problem_has_a_picture_of_its_own(tmp_path):
    """KLs of different data stand in one picture only where each has but one group."""
    root, points = tmp_path / "a", []
    for noise in ("0.1", "0.2"):
        for position in ("bam", "rope"):
            overrides = {"tunnel.noise": noise, "position": position}
            points.append({"study_id": study(root, overrides, kl(float(noise))[0]), "overrides": overrides})
    records.write_json(root / "sweep.json", {"points": points, "fixed": {}})
    pictures = kl_pictures(curved(root), gather([root]))
    assert [picture.title.partition(": ")[2] for picture in pictures] == ["0.1", "0.2"]
    assert [picture.name for picture in kl_pictures(root, gather([root])[::2])] == ["kl_against_length"]


def test_a_sweep_of_which_nothing_is_done_has_a_report(tmp_path, capsys):
    root = sweep(tmp_path / "a", {"bam": [None, {"error": ""}]})
    report([root])
    page = (root / "report.html").read_text()
    assert "did not finish" in page and "no reason given" in page and "<svg" not in page
    assert "with 0 figures" in capsys.readouterr().out


def test_a_study_has_one_too(root):
    folder = root / "positionbam-seed0"
    write(folder)
    page = (folder / "report.html").read_text()
    assert "exact to at least 4 × the horizon" in page and 'href="result.json"' in page
    assert all((folder / link).exists() for link in Reader(page).links)


def test_the_command_of_records_that_do_not_say_one(tmp_path):
    root = sweep(tmp_path / "a", {"bam": kl(1.0, 2.0), "rope": kl(1.0, 2.0)})
    text = command(root, [], records.read_json(root / "sweep.json"))
    assert text == (
        "windtunnel run -m tunnel=recall model=transformer tunnel.noise=0.1 train.steps=100 evaluate.tolerance=0.01 "
        "evaluate.reach=4.0 position=bam,rope seed=0,1"
    )


def test_geometry_is_read_where_it_was_probed_and_not_believed_to_be_whole(root):
    keys = {"best": 0, "chance_score": 0.8, "heads": [{"score": 0.9, "untrained": {"score": 0.7}, "shuffled": None}]}
    folder = root / "positionrope-seed0"
    for geometry in ({"skipped": "no keys"}, {"keys": {"best": 3}}, {"keys": keys}):
        records.write_json(folder / "probe.json", {"geometry": geometry})
        picture = geometry_picture(root, gather([root]))
        assert (picture is not None) == ("heads" in str(geometry))
    drawing = inline(picture, wide=False)
    assert all(f">{word}<" in drawing for word in ("trained", "untrained", "chance", "rope"))
    assert ">shuffled<" not in drawing and ">bam<" not in drawing
    (folder / "probe.json").unlink()


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_in_a_browser_nothing_overflows_and_nothing_is_asked_for(root, page, tmp_path, width):
    """In a frame of that width, all details open: the page is no wider than its window, and no label is cut off."""
    script = """<script>addEventListener('load', () => {
      const page = document.documentElement, wide = [...document.querySelectorAll('main *')].filter(
        e => !e.closest('svg') && !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1);
      for (const svg of document.querySelectorAll('svg')) for (const text of svg.querySelectorAll('text')) {
        const [own, all] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
        if (all.width && (own.left < all.left - 2 || own.right > all.right + 2 || own.bottom > all.bottom + 2))
          wide.push({className: text.textContent});
      }
      parent.document.title = [page.scrollWidth, innerWidth, wide.map(e => e.className || e.tagName).join(' '),
        performance.getEntriesByType('resource').length, document.querySelectorAll('svg').length].join('|');
    })</script>"""
    inner = page.replace("<details>", "<details open>").replace("</body>", f"{script}</body>")
    frame = tmp_path / "frame.html"
    frame.write_text(f'<title>-</title><iframe width="{width}" height="900" srcdoc="{html.escape(inner)}"></iframe>')
    flags = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
             "--disable-component-update --disable-sync --virtual-time-budget=4000").split()  # fmt: skip
    done = subprocess.run(
        ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{frame}"],
        capture_output=True, text=True, timeout=120)  # fmt: skip
    scroll, inner_width, wide, requests, drawings = re.search(r"<title>(.*?)</title>", done.stdout)[1].split("|")
    assert int(inner_width) == width and int(drawings) == 7
    assert int(scroll) <= width and wide == ""
    assert requests == "0"


def test_without_the_extra_it_says_what_to_install(root):
    code = (
        "import sys; sys.modules['matplotlib'] = None; from windtunnel.cli import main\n"
        "sys.argv = ['windtunnel', 'report', *sys.argv[1:]]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True)
    assert done.returncode == 2 and "pip install 'windtunnel[report]'" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
