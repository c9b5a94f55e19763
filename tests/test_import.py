"""import stackelberg as sb: the public names, each imported when it is asked for."""

import subprocess
import sys

import pytest

import stackelberg as sb


@pytest.mark.parametrize("name", sb.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(sb, name) is not None
    assert name in dir(sb)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'stackelberg' has no attribute 'sovle'"):
        _ = sb.sovle


def test_importing_is_free_of_what_is_not_asked_for() -> None:
    heavy = ("matplotlib", "datasets", "scipy.stats", "sklearn", "cvxpy", "onnx")
    script = (
        "import sys, stackelberg as sb; early = 'torch' in sys.modules; sb.Ball; sb.data; sb.attacks; sb.models; "
        f"sb.bounds; sb.poison; sb.report; print(early, [m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False []\n"
