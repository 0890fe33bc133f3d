"""Which models and versions a folder holds."""

from pathlib import Path

from serving.versions import newest, numbered

Versions = dict[int, Path]


def models(folder: Path) -> dict[str, Versions]:
    """Returns the versions by number of each model by name.

    Args:
        folder: Folder of models, of the versions of one model, or one version.

    Raises:
        FileNotFoundError: It is none of the three.
    """
    folder = folder.resolve()
    if (folder / "saved_model.pb").is_file():
        # Outside a folder of versions it is a model by itself, the first version of it.
        number = folder.name.isascii() and folder.name.isdigit()
        name = folder.parent.name if number else folder.name
        return {name: {int(folder.name) if number else 1: folder}}
    if folder.is_dir() and not numbered(folder):
        found = {
            path.name: numbered(path)
            for path in sorted(folder.iterdir())
            if path.is_dir() and not path.name.startswith(".")
        }
        if any(found.values()):
            return {name: versions for name, versions in found.items() if versions}
    newest(folder)
    return {folder.name: numbered(folder)}
