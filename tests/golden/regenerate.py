"""Writes the golden files anew: `make golden-update`. Read the diff before committing it."""

from __future__ import annotations

from tests.golden import goldens


def main() -> None:
    """Write every golden file, and remove those that have no spec."""
    (goldens.HERE / "expected").mkdir(exist_ok=True)
    for path in (goldens.HERE / "expected").glob("*.yaml"):
        if path.stem not in goldens.SPECS:
            path.unlink()
    for name in goldens.SPECS:
        goldens.expected_path(name).write_text(goldens.text(name))
        print(goldens.expected_path(name).relative_to(goldens.HERE.parent.parent))


if __name__ == "__main__":
    main()
