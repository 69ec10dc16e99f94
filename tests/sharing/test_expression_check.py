from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.sharing.expression_check import check_argument, check_expression
from bonemonai.sharing.expression_text import UnsafeExpressionError

ALIASES = {
    "monai": ["monai"], "torch": ["torch"], "np": ["numpy"], "numpy": ["numpy"], "os": ["os"], "pathlib": ["pathlib"],
    "bonemonai": ["bonemonai"], "Path": ["pathlib.Path"], "two": ["torch.nn", "os"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("__import__('os').system('id')", "uses __import__"),
        ("eval('1')", "uses eval"),
        ("exec('import os')", "uses exec"),
        ("open('x', 'w').write('y')", "uses open"),
        ("compile('1', 'x', 'eval')", "uses compile"),
        ("getattr(torch, 'load')('x')", "uses getattr"),
        ("globals()['__builtins__']", "uses globals"),
        ("vars(torch)", "uses vars"),
        ("type('X', (), {})", "uses type"),
        ("breakpoint()", "uses breakpoint"),
        ("input()", "uses input"),
        ("chr(36) + 'x'", "uses chr"),
        ("os.system('id')", "uses os.system"),
        ("os.environ", "uses os.environ"),
        ("os.environ['HOME']", "uses os.environ"),
        ("os.path.os.system('id')", "uses os.path.os.system"),
        ("torch.load('x.pt')", "uses torch.load"),
        ("torch.hub.load('a/b', 'c')", "uses torch.hub.load"),
        ("torch.os.system('id')", "uses torch.os.system"),
        ("torch", "uses torch,"),
        ("[torch][0].load('x')", "uses torch,"),
        ("np.load('x', allow_pickle=True)", "uses numpy.load"),
        ("monai.bundle.run(config_file='x.json')", "uses monai.bundle.run"),
        ("monai.utils.misc.run_cmd(['id'])", "uses monai.utils.misc.run_cmd"),
        ("monai.transforms.LoadImage(reader='os.system')", "uses monai.transforms.LoadImage"),
        ("list(map(monai.transforms.LoadImage, ['os.system']))", "uses monai.transforms.LoadImage"),
        ("monai.data.PersistentDataset(@a, None, 'c', weights_only=False)", "uses monai.data.PersistentDataset"),
        ("bonemonai.engines.CrossValidation(@a, @a, [0], 'o', 'm', {})", "uses bonemonai.engines.CrossValidation"),
        ("bonemonai.data.atomic.shutil.rmtree('x')", "uses bonemonai.data.atomic.shutil.rmtree"),
        ("pathlib.os.remove('x')", "uses pathlib.os.remove"),
        ("pathlib.Path('x').unlink()", "attribute unlink"),
        ("pathlib.Path('x').write_text('y')", "attribute write_text"),
        ("pathlib.Path('x').open('w')", "attribute open"),
        ("pathlib.Path('x').replace('y')", "attribute replace"),
        ("pathlib.Path('x').rename('y')", "attribute rename"),
        ("pathlib.Path('x').read_text()", "attribute read_text"),
        ("pathlib.Path.home()", "attribute home"),
        ("Path('x').mkdir()", "attribute mkdir"),
        ("().__class__.__base__.__subclasses__()", "attribute __class__"),
        ("(lambda: 0).__globals__", "attribute __globals__"),
        ("@net.__init__.__globals__['os'].system('id')", "attribute __init__"),
        ("(x for x in [1]).gi_frame.f_globals", "attribute gi_frame"),
        ("'{0.__class__}'.format(@net)", "attribute format"),
        ("'%c' % 36", "Mod"),
        ("f'{36:c}'", "formats by more"),
        ("f'{1:{@a}}'", "formats by more"),
        ("@table.query('@torch.os.system(1)')", "is no expression|attribute query"),
        ("@table.eval(@code)", "attribute eval"),
        ("@table.to_pickle('x')", "attribute to_pickle"),
        ("@array.tofile('x')", "attribute tofile"),
        ("@imports", "imports"),
        ("@imports#0.system('id')", "imports"),
        ("@['x']", "whole config"),
        ("__local_refs['imports::0'].system('id')", "imports"),
        ("__local_refs", "uses __local_refs"),
        ("(x := 1)", "NamedExpr"),
        ("[0 for torch in [@a]]", "another meaning"),
        ("[0 for @a['x'] in [1]]", "assigns to something"),
        ("[0 for @net.weight in [1]]", "assigns to something"),
        ("lambda os: os.environ", "another meaning"),
        ("lambda __x: 0", "another meaning"),
        ("(lambda f=open: f)('x')", "uses open"),
        ("await @x", "is no expression|Await"),
        ("(yield 1)", "Yield"),
        ("b'\\x24'", "neither number nor text"),
        ("'\\x24' + 'evil'", "could become"),
        ("'\\N{DOLLAR SIGN}'", "could become"),
        ("{'_target_': 'os.system', 'command': 'id'}", "could become"),
        ("dict(a='x' '_target_')", "could become"),
        ("'/root/.bashrc'", "outside the bundle"),
        ("pathlib.Path(@a) / '../../x'", "outside the bundle"),
        ("monai.data.DataLoader(@a, _debug_=True)", "sets _debug_"),
        ("monai.data.Dataset(@a, weights_only=False)", "sets weights_only"),
        ("monai.data.Dataset(@a, allow_pickle=@b)", "sets allow_pickle"),
        ("two.Linear(1, 2)", "uses os.Linear"),
        ("two.system('id')", "uses torch.nn.system"),
        ("-" * 3000 + "1", "is n"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(UnsafeExpressionError, match=reason):
        check_expression(text, ALIASES)


@pytest.mark.parametrize(
    ("text", "references"),
    [
        ("1 + 2 ** 3 // 4 - -5.0", []),
        ("[@a] * 3", ["a"]),
        ("@net#0.to(@device)", ["net::0", "device"]),
        ("str(pathlib.Path(@root) / 'models' / 'model.pt')", ["root"]),
        ("str(pathlib.Path(@file).with_suffix('')) + '_masks'", ["file"]),
        ("f'{@name}_{@number:04d}.pt'", ["name", "number"]),
        ("int(os.environ['RANK'])", []),
        ("int(os.environ.get('WORLD_SIZE', 1))", []),
        ("torch.device('cuda' if torch.cuda.is_available() else 'cpu')", []),
        ("lambda batch, device=None, **kwargs: (batch['image'].to(device), batch['mask'])", []),
        ("[dict(item, n=n) for n, (item, _) in enumerate(zip(@a, @b)) if item['x'] is not None]", ["a", "b"]),
        ("{name: len(rows) for name, rows in @groups.items()}", ["groups"]),
        ("(@card.get('calibration') or {}).get('band', 0.2)", ["card"]),
        ("@net.eval()", ["net"]),
        ("monai.transforms.Compose([*@a, @b]).flatten()", ["a", "b"]),
        ("not @a and @b != 'x' or 3 in @c", ["a", "b", "c"]),
        ("@rows[:4, None]", ["rows"]),
        ("bonemonai.data.CLASSES.index('x')", []),
        ("Path('x').name", []),
        ("print('done')", []),
    ],
)
def test_allowed(text: str, references: list[str]) -> None:
    assert sorted(check_expression(text, ALIASES)) == sorted(references)


WORDS = [
    "@a", "torch", "os", "x", "eval", "lambda x:", "(", ")", "[", "]", ".", ",", "load", "system", "__class__", "'s'",
    "1", "for x in", "if", "else", "=", "+", "%", "*", "**", "nn", "Linear", "path", "join", ":", "{", "}",
    "get", "not", " ",
]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=14).map("".join) | st.text(max_size=40))
def test_what_is_allowed_names_nothing_else(text: str) -> None:
    """Whatever stands there: a refusal, or only names and attributes from the lists."""
    try:
        check_expression(text, ALIASES)
    except UnsafeExpressionError:
        return
    for node in ast.walk(ast.parse(text.replace("@", "ref_"))):
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")
            assert node.attr not in ("load", "system")
        if isinstance(node, ast.Name):
            assert node.id not in ("eval", "exec", "open")
        assert not isinstance(node, ast.Mod | ast.NamedExpr | ast.Await | ast.Yield)


def test_arguments() -> None:
    check_argument("weights_only", True)
    check_argument("anything", False)
    for name, value in (("weights_only", False), ("weights_only", 1), ("allow_pickle", True), ("_debug_", None)):
        with pytest.raises(UnsafeExpressionError, match=f"sets {name}"):
            check_argument(name, value)
