"""`fnl pretrain`: weights of a public corpus, for runs to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fnl.cli.terminal import Assignments, RecipeName
from fnl.cli.terminal import err as _err
from fnl.cli.terminal import out as _out
from fnl.console import counting_bar

Output = Annotated[Path, typer.Option(help="File of the weights; runs name it by model.initial.")]


def pretrain(
    assignments: Assignments = None,
    recipe: RecipeName = "teacher",
    output: Output = Path("teacher.safetensors"),
) -> None:
    """Train a network centrally, without privacy, on a corpus that is public."""
    from experiments.pretraining import public_clips, train_teacher
    from experiments.recipe import load_recipe
    from fnl.config import parse_overrides
    from fnl.errors import RunError, saying_why
    from fnl.interchange.pretrained import save_pretrained
    from fnl.runtime.atomic import write_atomically
    from fnl.training.start import check_initial

    loaded = load_recipe(recipe, parse_overrides(assignments or []))
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise RunError(f"cannot write {output}: give a file in a folder that exists")
    check_initial(loaded.config)
    federation = public_clips(loaded.config)
    with counting_bar(_err) as bar:
        task = bar.add_task("epochs", total=loaded.training.epochs)
        weights, origin = train_teacher(
            loaded, federation, progress=lambda epoch, _: bar.update(task, completed=epoch)
        )
    with saying_why(f"cannot write {output}"):
        write_atomically(
            output,
            lambda path: save_pretrained(path, weights, origin, as_text=output.suffix == ".json"),
        )
    label = " (synthetic clips)" if origin.synthetic else ""
    _out.print(
        f"{origin.split} accuracy {origin.accuracy:.3f} of {len(origin.words)} words{label}\n"
        f"weights sha256 {origin.sha256}\nstart from them: --set model.initial={output}"
    )
