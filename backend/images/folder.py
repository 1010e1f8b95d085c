"""Pictures in a folder, found by what the address of a task says of their names."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import BadRequest


class PictureFolder:
    """Picture files below a folder, found by the end of their path or by their name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_name: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._by_name.setdefault(path.name, []).append(path)

    def of(self, names: Sequence[str]) -> Path:
        """Raises BadRequest for a picture that is not there, or there more than once."""
        for name in names:
            parts = Path(name).parts
            found = self._by_name.get(parts[-1], []) if parts else []
            closest = [path for path in found if path.parts[-len(parts) :] == parts]
            for some in (closest, found):
                if len(some) == 1:
                    return some[0]
            if found:
                raise BadRequest(
                    f"{len(found)} pictures are called {parts[-1]}; keep one of them below "
                    f"{self.folder}"
                )
        raise BadRequest(f"the picture {names[0]} is not below {self.folder}; put it there")
