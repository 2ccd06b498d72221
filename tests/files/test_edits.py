"""Any sequence of edits whose final objects are valid ends where a fresh start on the final files begins."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_operator.sources.files import Loaded, settle
from weighbridge_operator.sources.listing import FileText

FILES = ("conf/a.yaml", "conf/b.yaml", "conf/c.yaml")
NAMES = ("one", "two", "three")

_KEEP = "metadata: {{name: {name}}}\n"
_NODE = "apiVersion: weighbridge.dev/v1alpha1\nkind: ModelNode\n" + _KEEP
_SPEC = "spec:\n  engine: vllm\n  address: {{host: 10.0.0.1, port: {port}}}\n  models: [{{name: m}}]\n"
_FORMS = {
    "valid": _NODE + _SPEC,
    "policy": "apiVersion: weighbridge.dev/v1alpha1\nkind: RoutePolicy\n"
    + _KEEP
    + "spec: {{retry: {{attempts: 3}}}}\n",
    "secret": "apiVersion: v1\nkind: Secret\n" + _KEEP + "stringData: {{key: value-{port}}}\n",
    "invalid": _NODE + _SPEC + "  capacity: -{port}\n",
    "broken": _NODE + _SPEC + "  tier: 'high\n",
    "nameless": "kind: ModelNode\nmetadata: {{}}\n",
    "foreign": "apiVersion: v1\nkind: Service\n" + _KEEP,
}
VALID = ("valid", "policy", "secret")

documents = st.tuples(st.sampled_from(sorted(_FORMS)), st.sampled_from(NAMES), st.integers(1, 9))
contents = st.none() | st.lists(documents, max_size=4)
edits = st.lists(st.tuples(st.sampled_from((*FILES, "conf")), contents, st.integers(0, 120)), max_size=12)
finals = st.dictionaries(
    st.tuples(st.sampled_from(VALID), st.sampled_from(NAMES)), st.tuples(st.sampled_from(FILES), st.integers(1, 9))
)


def write(form: str, name: str, port: int) -> str:
    return "---\n" + _FORMS[form].format(name=name, port=port)


def read(disk: dict[str, str], held: Loaded, *, listed: bool = True) -> Loaded:
    gone = FileText("conf", None, trouble=("cannot be read", "make it readable"), gone=True)
    files = [FileText(name, disk[name].encode(), private=True) for name in sorted(disk)]
    return settle(files if listed else [gone], held.objects)


@settings(max_examples=150)
@given(edits, finals)
def test_edits_end_like_a_fresh_start(
    steps: list[tuple[str, list[tuple[str, str, int]] | None, int]], final: dict[tuple[str, str], tuple[str, int]]
) -> None:
    disk: dict[str, str] = {}
    loaded = Loaded()
    for target, content, cut in steps:
        if target == "conf":
            loaded = read(disk, loaded, listed=False)
        elif content is None:
            disk.pop(target, None)
        else:
            whole = "".join(write(*document) for document in content)
            # Half of the files are seen while they are still being written.
            disk[target] = whole[: len(whole) - cut] if cut < 60 else whole
        loaded = read(disk, loaded)
    disk = {name: "" for name in disk if name in {file for file, _ in final.values()}}
    for (form, name), (file, port) in final.items():
        disk[file] = disk.get(file, "") + write(form, name, port)
    ended, fresh = read(disk, loaded), read(disk, Loaded())
    assert ended == fresh
    assert fresh.problems == ()
    assert fresh.rejections == ()
    assert len(fresh.objects) == len(final)


@settings(max_examples=100)
@given(st.lists(documents, min_size=1, max_size=4), st.integers(0, 400))
def test_what_was_good_serves_until_it_is_taken_out(after: list[tuple[str, str, int]], cut: int) -> None:
    before = read({FILES[0]: "".join(write("valid", name, 1) for name in NAMES)}, Loaded())
    whole = "".join(write(*document) for document in after)
    now = read({FILES[0]: whole[: max(1, len(whole) - cut)]}, before)
    rejected = {rejection.ref for rejection in now.rejections if rejection.held}
    assert rejected <= now.objects.keys()
    for ref in rejected:
        assert now.objects[ref].object == before.objects[ref].object
    if now.problems and any(problem.object is None for problem in now.problems):
        assert before.objects.keys() <= now.objects.keys()
