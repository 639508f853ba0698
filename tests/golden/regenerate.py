"""Writes the golden files and k8sddp/spec/core_v1.py anew: `make golden-update`. Read the diff before committing it."""

from __future__ import annotations

from tests.golden import core_v1, goldens


def main() -> None:
    """Write every golden file and what is generated, and remove golden files that have no spec."""
    core_v1.main()
    (goldens.HERE / "expected").mkdir(exist_ok=True)
    for path in (goldens.HERE / "expected").glob("*.yaml"):
        if path.stem not in goldens.SPECS:
            path.unlink()
    for name in goldens.SPECS:
        goldens.expected_path(name).write_text(goldens.text(name))
        print(goldens.expected_path(name).relative_to(goldens.HERE.parent.parent))


if __name__ == "__main__":
    main()
