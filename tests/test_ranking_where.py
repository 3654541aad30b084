import pytest
from ranking_rows import constant, run

from t2i_track.errors import CompareError
from t2i_track.ranking import where

ROWS = [
    run("low", {"fid": constant("fid", 30.0)}, guidance=3.0),
    run("high", {"fid": constant("fid", 20.0)}, guidance=12.0, scheduler="ddim", seed=7, batch_size=16),
    run("lora", guidance=7.5, lora="it's/a.safetensors", seconds_per_image=None),
]


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("guidance > 7", ["high", "lora"]),
        ("guidance > 7 and scheduler = 'pndm'", ["lora"]),
        ("guidance > 7 or scheduler = 'pndm'", ["low", "high", "lora"]),
        ("not (guidance > 7 or seed == 7)", ["low"]),
        ('scheduler != "pndm"', ["high"]),
        ("fid < 25.5", ["high"]),
        ("not fid < 25.5", ["low"]),
        ("fid is null", ["lora"]),
        ("lora IS NOT NULL AND steps>=30", ["lora"]),
        ("lora = 'it''s/a.safetensors'", ["lora"]),
        ("guidance in (3, 12.0)", ["low", "high"]),
        ("scheduler not in ('ddim')", ["low", "lora"]),
        ("name like 'L%'", ["low", "lora"]),
        ("name not like '_o%'", ["high"]),
        ("seconds_per_image <= 3e-1", ["low", "high"]),
        ("guidance > -1 and guidance < .5", []),
        ("fid > 1 or guidance = 7.5", ["low", "high", "lora"]),
        ("fid > 1 and guidance = 7.5", []),
        ("batch_size = 16", ["high"]),
    ],
)
def test_conditions(condition: str, names: list[str]) -> None:
    assert [row.name for row in where(ROWS, condition)] == names


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("guidence > 7", "--where: no column 'guidence'; did you mean 'guidance'?"),
        ("guidance > 'x'", "--where: guidance is a number, not 'x'"),
        ("steps = 3 and", "--where: expected a column, found the end in 'steps = 3 and'"),
        ("scheduler = pndm", "--where: expected a quoted text, found pndm at character 13 in 'scheduler = pndm'"),
        ("scheduler = 5", "--where: scheduler is a text: write '5'"),
        ("guidance 7", "--where: expected one of = != < <= > >= in like is, found 7 at character 10 in 'guidance 7'"),
        ("(guidance > 7", "--where: expected ')', found the end in '(guidance > 7'"),
        (
            "guidance > 7 steps",
            "--where: expected 'and', 'or' or the end, found steps at character 14 in 'guidance > 7 steps'",
        ),
        ("guidance > 7; drop table runs", "--where: cannot read ';' in 'guidance > 7; drop table runs'"),
        ("__import__('os')", "--where: no column '__import__'; there are"),
        ("guidance > 7x", "--where: cannot read '7x' in 'guidance > 7x'"),
        ("scheduler = 'pndm", '--where: cannot read "\'pndm" in "scheduler = \'pndm"'),
        ("guidance not > 3", "--where: expected 'in' or 'like', found > at character 14 in 'guidance not > 3'"),
        ("steps is 3", "--where: expected null, found 3 at character 10 in 'steps is 3'"),
        ("", "--where: expected a column, found the end in ''"),
        # Slips that SQL takes for conditions which are always true or always false.
        (
            "scheduler = 'pndm' or 'ddim'",
            "--where: expected a column, found 'ddim' at character 23 in \"scheduler = 'pndm' or 'ddim'\"",
        ),
        (
            "1 < guidance < 7",
            "--where: expected a column, found 1 at character 1 in '1 < guidance < 7'",
        ),
        (
            "guidance < 7 < 9",
            "--where: expected 'and', 'or' or the end, found < at character 14 in 'guidance < 7 < 9'",
        ),
        ("steps = 3 | guidance = 7", "--where: cannot read '|' in 'steps = 3 | guidance = 7'"),
        ("(" * 5000, "--where: more than 50 levels of brackets and 'not' in"),
    ],
)
def test_errors_are_one_line_and_name_the_offender(condition: str, message: str) -> None:
    with pytest.raises(CompareError) as caught:
        where(ROWS, condition)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_columns_are_listed_in_one_order() -> None:
    with pytest.raises(CompareError) as caught:
        where(ROWS, "__import__('os')")
    listed = str(caught.value).partition("there are ")[2].split(", ")
    assert listed == sorted(listed)
    assert {"guidance", "fid", "alignment", "batch_size"} <= set(listed)
