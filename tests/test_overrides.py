"""What users decide instead of the method, and importance weights: bytes of ``llama_model_quantize`` given the same."""

from __future__ import annotations

from pathlib import Path

import llama_cpp_oracle
import numpy as np
import pytest
from checkpoint_builder import write_model
from command_line import convert as command
from command_line import refusal
from gguf import GGMLQuantizationType, GGUFReader
from numpy.typing import NDArray

from converter import convert
from converter.errors import UsageError
from converter.imatrix import Entry, ImatrixError, ImportanceMatrix, write_imatrix
from converter.recipes import METHODS, Overrides

SAMPLE = Path(__file__).parent / "fixtures" / "sample"
Q4_K, Q6_K, Q8_0 = (int(GGMLQuantizationType[name]) for name in ("Q4_K", "Q6_K", "Q8_0"))


@pytest.fixture(scope="module")
def sample_f32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(SAMPLE, "f32", tmp_path_factory.mktemp("sample") / "f32.gguf", verify="none").output


def random_importance(
    f32: Path, folder: Path, *, without: str = "token_embd"
) -> tuple[Path, dict[str, NDArray[np.float32]]]:
    """Importance of every matrix of a file, but for those named so, as a file and as arrays."""
    random = np.random.default_rng(3)
    entries = {}
    for tensor in GGUFReader(f32).tensors:
        shape = tensor.shape.tolist()
        if len(shape) > 1 and without not in tensor.name:
            stack = shape[2] if len(shape) == 3 else 1
            sums = random.gamma(0.5, 2.0, (stack, shape[0])).astype(np.float32)
            entries[tensor.name] = Entry(sums, np.full(stack, 7))
    matrix = ImportanceMatrix(entries, chunk_size=512, chunk_count=1, datasets=("random",))
    path = folder / "imatrix.gguf"
    write_imatrix(path, matrix)
    return path, {name: matrix.importance_of(name) for name in entries}


def same(ours: Path, theirs: Path) -> None:
    assert llama_cpp_oracle.tensors(ours) == llama_cpp_oracle.tensors(theirs)


@pytest.mark.parametrize("method", METHODS)
def test_importance(sample_f32: Path, tmp_path: Path, method: str) -> None:
    file, weights = random_importance(sample_f32, tmp_path)
    ours = convert(SAMPLE, method, tmp_path / "ours.gguf", imatrix=[file], verify="none").output
    theirs = tmp_path / "theirs.gguf"
    llama_cpp_oracle.quantize(sample_f32, theirs, METHODS[method].file_type, importance=weights)
    same(ours, theirs)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A mixture-of-experts checkpoint and its f32 file."""
    folder = tmp_path_factory.mktemp("mixture")
    model = write_model(folder / "model", "mixtral")
    return model, convert(model, "f32", folder / "f32.gguf", verify="none").output


@pytest.mark.parametrize("method", METHODS)
def test_importance_of_experts(mixture: tuple[Path, Path], tmp_path: Path, method: str) -> None:
    model, f32 = mixture
    file, weights = random_importance(f32, tmp_path)
    ours = convert(model, method, tmp_path / "ours.gguf", imatrix=[file], verify="none").output
    llama_cpp_oracle.quantize(f32, tmp_path / "theirs.gguf", METHODS[method].file_type, importance=weights)
    same(ours, tmp_path / "theirs.gguf")


@pytest.mark.parametrize(
    ("overrides", "settings"),
    [
        (
            Overrides(tensor_types=(("ffn_down", "q8_0"), ("blk.1.", "Q6_K"))),
            {"tensor_types": {"ffn_down": Q8_0, "blk.1.": Q6_K}},
        ),
        (Overrides(output_type="q8_0"), {"output_tensor_type": Q8_0}),
        (Overrides(embedding_type="q6_k"), {"token_embedding_type": Q6_K}),
        (Overrides(leave_output=True), {"quantize_output_tensor": False}),
        (Overrides(pure=True, output_type="q8_0"), {"pure": True, "output_tensor_type": Q8_0}),
        (Overrides(prune_layers=(1, 2)), {"prune_layers": [1, 2]}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["q4_k_m", "q4_0"])
def test_overrides(
    sample_f32: Path, tmp_path: Path, method: str, overrides: Overrides, settings: dict[str, object]
) -> None:
    ours = convert(SAMPLE, method, tmp_path / "ours.gguf", overrides=overrides, verify="none").output
    llama_cpp_oracle.quantize(sample_f32, tmp_path / "theirs.gguf", METHODS[method].file_type, **settings)  # type: ignore[arg-type]
    same(ours, tmp_path / "theirs.gguf")


def test_pruning_with_importance_takes_the_weights_of_the_original_blocks(sample_f32: Path, tmp_path: Path) -> None:
    file, weights = random_importance(sample_f32, tmp_path)
    overrides = Overrides(prune_layers=(0, 2))
    ours = convert(SAMPLE, "q4_k_m", tmp_path / "ours.gguf", imatrix=[file], overrides=overrides, verify="load").output
    theirs = tmp_path / "theirs.gguf"
    llama_cpp_oracle.quantize(sample_f32, theirs, METHODS["q4_k_m"].file_type, importance=weights, prune_layers=[0, 2])
    same(ours, theirs)
    assert GGUFReader(ours).fields["llama.block_count"].contents() == 2


def test_included_and_excluded_weights(sample_f32: Path, tmp_path: Path) -> None:
    file, weights = random_importance(sample_f32, tmp_path)
    for field, keep in (("include_weights", True), ("exclude_weights", False)):
        chosen = {name: values for name, values in weights.items() if ("ffn" in name) == keep}
        overrides = Overrides(**{field: ("ffn",)})
        ours = convert(SAMPLE, "q4_k_s", tmp_path / f"{field}.gguf", imatrix=[file], overrides=overrides, verify="none")
        theirs = tmp_path / "theirs.gguf"
        llama_cpp_oracle.quantize(sample_f32, theirs, METHODS["q4_k_s"].file_type, importance=chosen)
        same(ours.output, theirs)


def test_options_of_the_command_line(tmp_path: Path) -> None:
    output = tmp_path / "x.gguf"
    outcome = command(
        "--model", SAMPLE, "--method", "q4_k_m", "--output", output, "--verify", "none",
        "--tensor-type", r"blk\.0\.=q8_0", "--tensor-type", "ffn=q5_k", "--output-type", "q5_1",
        "--override-kv", "llama.context_length=int:128", "--override-kv", "general.author=str:Someone",
        "--override-kv", "llama.rope.freq_base=float:5000", "--override-kv", "tokenizer.ggml.add_bos_token=bool:false",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    reader = GGUFReader(output)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.ffn_up.weight"] == kinds["blk.0.attn_q.weight"] == "Q8_0"
    assert (kinds["blk.1.ffn_up.weight"], kinds["output.weight"]) == ("Q5_K", "Q5_1")
    expected = {
        "llama.context_length": 128,
        "general.author": "Someone",
        "llama.rope.freq_base": 5000.0,
        "tokenizer.ggml.add_bos_token": False,
    }
    assert {key: reader.fields[key].contents() for key in expected} == expected


def test_calibrating_first_measures_once(tmp_path: Path) -> None:
    run = ("--model", SAMPLE, "--method", "iq3_xxs", "--output", tmp_path / "x.gguf", "--verify", "load")
    run = (*run, "--calibrate", SAMPLE / "heldout.txt")
    outcome = command(*run)
    assert outcome.code == 0, outcome.err
    measured = (tmp_path / "x.gguf.imatrix.gguf").read_bytes()
    again = command(*run, "--force")
    assert "is up to date" in again.err
    assert (tmp_path / "x.gguf.imatrix.gguf").read_bytes() == measured
    assert len(GGUFReader(tmp_path / "x.gguf").tensors) == 39


def test_a_changed_choice_of_weights_starts_over(sample_f32: Path, tmp_path: Path) -> None:
    file, _ = random_importance(sample_f32, tmp_path)

    def digest(overrides: Overrides) -> str:
        from converter.formats import find_format
        from converter.model import open_model
        from converter.request import Request
        from converter.sources import open_source

        request = Request(SAMPLE, "q4_k_s", "x.gguf", overrides=overrides, imatrix=[file], verify="none")
        with open_source(request.model) as source, open_model(source) as model:
            prepared = find_format("gguf").prepare(model, request)
        return prepared.plan.digest()

    assert digest(Overrides()) != digest(Overrides(exclude_weights=("ffn",)))


def test_a_tensor_without_data_where_the_method_needs_it(sample_f32: Path, tmp_path: Path) -> None:
    run = ("--model", SAMPLE, "--output", tmp_path / "x.gguf", "--verify", "none")
    assert refusal(*run, "--method", "iq3_xxs").startswith(
        "blk.0.attn_q.weight: iq2_s needs importance weights, but no importance matrix is given; pass --imatrix FILE"
    )
    file, _ = random_importance(sample_f32, tmp_path, without="blk.2.ffn_up")
    assert refusal(*run, "--method", "iq3_xxs", "--imatrix", file).startswith(
        f"blk.2.ffn_up.weight: iq3_xxs needs importance weights, but {file} has no data for it; "
    )


def test_an_embedding_without_data_where_its_type_needs_it(sample_f32: Path, tmp_path: Path) -> None:
    file, _ = random_importance(sample_f32, tmp_path)
    run = ("--model", SAMPLE, "--output", tmp_path / "x.gguf", "--method", "iq2_xs", "--imatrix", file, "--pure")
    assert refusal(*run).startswith(
        f"token_embd.weight: iq2_xs needs importance weights, but {file} has no data for it"
    )
    assert not list(tmp_path.glob("x.gguf*"))


def test_a_matrix_of_another_model_is_refused(sample_f32: Path, tmp_path: Path) -> None:
    file, _ = random_importance(sample_f32, tmp_path)
    other = write_model(tmp_path / "other", "llama", hidden_size=512)
    with pytest.raises(ImatrixError, match=r"it was made for another model$"):
        convert(other, "q4_k_m", tmp_path / "x.gguf", imatrix=[file], verify="none")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--tensor-type", "ffn=q9_k"), "tensor type 'q9_k' does not exist; types are f32, "),
        (("--tensor-type", "ffn(=q4_k"), "tensor type: 'ffn(' is no regular expression: "),
        (("--tensor-type", "q4_k"), "--tensor-type 'q4_k' is not REGEX=TYPE"),
        (("--output-type", "huge"), "tensor type 'huge' does not exist"),
        (("--override-kv", "a.b:3"), "override 'a.b:3' is not KEY=TYPE:VALUE with a type of int, float, bool, str"),
        (("--override-kv", "a.b=int:x"), "override 'a.b=int:x': 'x' is no int"),
        (("--override-kv", "a.b=bool:1"), "override 'a.b=bool:1': '1' is no bool"),
        (("--prune-layers", "1,x"), "--prune-layers '1,x' is not a list of block numbers such as 3,4,5"),
        (("--prune-layers", "4"), "layers to prune [4]: the model has blocks 0 to 3; leave at least one"),
        (("--prune-layers", "0,1,2,3"), "layers to prune [0, 1, 2, 3]: the model has blocks 0 to 3; leave "),
        (("--include-weights", "a", "--exclude-weights", "b"), "weights are either included or excluded, not both"),
    ],
)  # fmt: skip
def test_wrong_overrides(tmp_path: Path, options: tuple[str, ...], expected: str) -> None:
    run = ("--model", SAMPLE, "--method", "q4_k_m", "--output", tmp_path / "x.gguf")
    assert refusal(*run, *options, code=2).startswith(expected)
    assert not list(tmp_path.iterdir())


def test_overrides_are_checked_in_python_too() -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Overrides(embedding_type="q5_2")
