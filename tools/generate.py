"""Let llama.cpp continue a text as its users run it: ``python tools/generate.py FILE PROMPT``.

All settings are the runtime's own defaults but for greedy sampling. llama.cpp runs in a child process, so that a build
that crashes on this processor becomes a sentence.
"""

from __future__ import annotations

from pathlib import Path

import click

from converter.runtime import IsolatedFailure, run_isolated


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("prompt")
@click.option("--tokens", default=40, show_default=True, help="New tokens at most.")
def main(file: Path, prompt: str, tokens: int) -> None:
    """Print PROMPT and what the model in FILE makes of it, up to the end of a paragraph."""
    try:
        text = run_isolated("generate:continuation", path=str(file), prompt=prompt, tokens=tokens)
    except IsolatedFailure as failure:
        raise click.ClickException(f"{file}: llama.cpp {failure.how}") from failure
    click.echo(f"The file in llama.cpp: {prompt}{text}")


def continuation(path: str, prompt: str, tokens: int) -> str:
    """The model's text after a prompt. Called in a child process."""
    from llama_cpp import Llama

    model = Llama(path, n_ctx=256, verbose=False)
    answer = model.create_completion(prompt, max_tokens=tokens, temperature=0.0, stop=["\n\n"])
    return str(answer["choices"][0]["text"])


if __name__ == "__main__":
    main()
