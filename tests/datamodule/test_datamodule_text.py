"""The datasets as a whole: read, split, tokenise, deal; and each mistake a user can make."""

import numpy as np
import pandas as pd
import pytest
import torch

from kdlab.datamodule import rows as rows_module
from kdlab.datamodule.chinese_reviews import ChineseReviews
from kdlab.datamodule.hub import Hub
from kdlab.datamodule.movie_reviews import MovieReviews
from kdlab.datamodule.rows import stored
from kdlab.datamodule.table import Table
from kdlab.datamodule.tokenizer import digest, load, wordpiece
from kdlab.error import UserError

WORDS = ["good", "bad", "film", "plot", "actor", "dull", "bright", "slow", "很", "好", "差", "书", "店"]
TOKENIZER = "train:wordpiece:200"


def toy(count: int = 60, classes: int = 2) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "text": [f"{' '.join(random.choice(WORDS, random.integers(2, 9)))} {i}" for i in range(count)],
            "label": [f"class {i % classes}" for i in range(count)],
        }
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def saved(frame: pd.DataFrame, path) -> str:
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True, force_ascii=False)
        case ".parquet":
            frame.to_parquet(path)
    return str(path)


def table(frame: pd.DataFrame, tmp_path, **options) -> Table:
    data = Table(path=saved(frame, tmp_path / "a.csv"), **{"tokenizer": TOKENIZER, "batch_size": 8} | options)
    data.setup()
    return data


def test_all_formats_read_alike(tmp_path):
    frame = toy()
    frame.loc[3, "label"] = None
    found = []
    for kind in (".csv", ".tsv", ".jsonl", ".parquet"):
        data = Table(path=saved(frame, tmp_path / f"a{kind}"), tokenizer=TOKENIZER)
        data.setup()
        found.append((data.fingerprint, data.encoded.codes.tolist(), {k: v.tolist() for k, v in data.splits.items()}))
    assert all(each == found[0] for each in found)
    assert found[0][1][3] == -1


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_numbers_are_labels_and_a_missing_one_is_none(tmp_path, kind):
    frame = toy().assign(label=[float(i % 11) for i in range(60)])
    frame.loc[0, "label"] = np.nan
    data = Table(path=saved(frame, tmp_path / f"a{kind}"), tokenizer=TOKENIZER)
    data.setup()
    assert [float(name) for name in data.labels] == list(range(11)), "by number: 10 after 9"
    assert data.encoded.codes[:3].tolist() == [-1, 1, 2]


def test_counts_add_up(tmp_path):
    data = table(toy(60), tmp_path)
    about = data.describe()
    assert about["train"] + about["val"] + about["test"] == about["rows"] == 60
    assert sum(data.label_counts) == about["labelled"] == about["train"]
    assert sum(len(batch.row) for batch in data.train_dataloader()) == about["train"]
    assert sorted(torch.cat([b.row for b in data.every_row(64)]).tolist()) == list(range(60))
    assert all(b.inputs["input_ids"].numel() <= 64 for b in data.every_row(64))
    assert sum(len(batch.row) for batch in data.test_dataloader()) == about["test"]


def test_tokens_are_those_of_the_tokenizer(tmp_path):
    frame = toy()
    data = table(frame, tmp_path, max_length=6)
    for batch in data.val_dataloader():
        for ids, mask, row in zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], batch.row, strict=True):
            expected = data.tokenizer(frame.text[int(row)], truncation=True, max_length=6)["input_ids"]
            assert ids[mask.bool()].tolist() == expected


def test_few_shot_labels_follow_the_seed_and_leave_everything_else_alone(tmp_path):
    whole = table(toy(), tmp_path)
    keep = table(toy(), tmp_path, per_class=3)
    other = table(toy(), tmp_path, per_class=3, seed=1)
    drop = table(toy(), tmp_path, per_class=3, unlabelled="drop")
    assert keep.label_counts == other.label_counts == drop.label_counts == [3, 3]
    for data in (keep, other):
        assert all(np.array_equal(data.splits[name], whole.splits[name]) for name in whole.splits)
        assert data.fingerprint == whole.fingerprint
        for name in ("val", "test"):
            assert np.array_equal(data.encoded.codes[data.splits[name]], whole.encoded.codes[data.splits[name]])
    assert not np.array_equal(keep.encoded.codes, other.encoded.codes)
    assert drop.splits["train"].tolist() == sorted(
        set(np.flatnonzero(keep.encoded.codes >= 0)) & set(whole.splits["train"])
    )
    assert sum(batch.size["labelled"] for batch in keep.train_dataloader()) == 6


def test_caps_are_stratified_subsets(tmp_path):
    whole = table(toy(120), tmp_path)
    small = table(toy(120), tmp_path, train_rows=20, val_rows=6, test_rows=4)
    assert [len(small.splits[name]) for name in ("train", "val", "test")] == [20, 6, 4]
    for name in whole.splits:
        assert set(small.splits[name]) <= set(whole.splits[name])
        assert np.bincount(small.encoded.codes[small.splits[name]]).tolist() == [len(small.splits[name]) // 2] * 2
    assert small.fingerprint == whole.fingerprint
    assert table(toy(120), tmp_path, split_seed=1).splits["test"].tolist() != whole.splits["test"].tolist()


def test_given_splits(tmp_path):
    frame = toy().assign(part=["train"] * 40 + ["dev"] * 10 + ["test"] * 10)
    data = table(frame, tmp_path, split_column="part")
    assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 40, "val": 10, "test": 10}
    assert data.splits["val"].tolist() == list(range(40, 50))


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_several_labels_a_row(tmp_path, kind):
    cells = [["a"], ["b", "c"], ["a", "c"], None] * 15
    column = cells if kind == ".parquet" else [";".join(names) if names else "" for names in cells]
    path = saved(toy().assign(label=column), tmp_path / f"a{kind}")
    data = Table(path=path, tokenizer=TOKENIZER, multi_label=True, val_fraction=0.2)
    data.setup()
    assert data.labels == ["a", "b", "c"] and data.multi_label
    assert data.encoded.codes[:4].tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 1], [-1, -1, -1]]
    batch = next(iter(data.val_dataloader()))
    assert batch.target["label"].shape == (len(batch.row), 3) and batch.target["label"].dtype == torch.float32
    train = data.encoded.codes[data.splits["train"]]
    assert data.label_counts == [int((train[:, i] == 1).sum()) for i in range(3)]


def test_a_second_run_tokenises_nothing(tmp_path, monkeypatch):
    first = table(toy(), tmp_path)
    monkeypatch.setattr("kdlab.datamodule.rows.write", lambda *_: pytest.fail("tokenised again"))
    monkeypatch.setattr("kdlab.datamodule.tokenizer.wordpiece", lambda *_: pytest.fail("trained again"))
    second = table(toy(), tmp_path)
    assert second.fingerprint == first.fingerprint
    pairs = zip(first.train_dataloader(), second.train_dataloader(), strict=True)
    assert all(torch.equal(a.inputs["input_ids"], b.inputs["input_ids"]) for a, b in pairs)


def test_fingerprint_changes_with_what_decides_the_tokens_only(tmp_path):
    frame = toy()
    base = table(frame, tmp_path).fingerprint
    given = {
        "text": frame.text,
        "label": frame.label.str.upper(),
        "part": ["train"] * 40 + ["val"] * 10 + ["test"] * 10,
    }
    relabelled = table(pd.DataFrame(given), tmp_path)
    assert relabelled.fingerprint == base
    assert table(frame, tmp_path, max_length=5).fingerprint != base
    assert table(frame, tmp_path, tokenizer="train:wordpiece:120").fingerprint != base
    assert table(frame.assign(text=frame.text + "!"), tmp_path).fingerprint != base


def test_damaged_tokens_are_made_again(cache):
    made = [[1, 2], [3], [4, 5, 6]]
    for damage in ("tokens.npy", "offsets.npy"):
        rows = stored("x", 3, lambda: made)
        assert [rows.tokens[a:b].tolist() for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)] == made
        assert isinstance(rows.tokens, np.memmap)
        path = cache / "rows" / "x" / damage
        path.write_bytes(path.read_bytes()[:-8])
    assert stored("x", 3, lambda: made).lengths.tolist() == [2, 1, 3]
    assert rows_module.stored("x", 3, lambda: pytest.fail("tokenised again")).lengths.tolist() == [2, 1, 3]


def test_wordpiece_is_the_same_each_time_and_reads_chinese():
    texts = toy(300).text.tolist()
    assert len({wordpiece(texts[::turn], 120).to_str() for turn in (1, -1) * 5}) == 1
    tokenizer = load(TOKENIZER, texts)
    assert tokenizer.tokenize("很好Good") == ["很", "好", "good"]
    ids = tokenizer("很好")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "很", "好", "[SEP]"]
    assert [tokenizer.pad_token_id, tokenizer.unk_token_id] == [0, 1]
    before = digest(tokenizer)
    tokenizer(texts, truncation=True, max_length=3, padding=True)
    assert digest(tokenizer) == before, "calls leave the digest alone"


def test_movie_reviews(tmp_path):
    lines = [f"{i}\t{score}\tfilm {i} café" for i, score in enumerate([2.5, -1, 0.5, -0.5, 0.4, -0.2] * 10)]
    lines += [lines[0], "98\t3\tboth", "99\t-3\tboth"]
    (tmp_path / "a.txt").write_text("\r\n".join(lines), "utf-8")
    data = MovieReviews(path=str(tmp_path / "a.txt"), tokenizer=TOKENIZER)
    data.setup()
    assert data.labels == ["negative", "positive"]
    assert data.encoded.codes.tolist() == [1, 0, 1, 0] * 10, "mild and contradictory ones out, repeated ones once"
    (tmp_path / "a.txt").write_text("1\tgood", "utf-8")
    with pytest.raises(UserError, match=r"line 1 of .* is not id, rating and text"):
        data.corpus()


def test_chinese_reviews(tmp_path):
    (tmp_path / "pos.txt").write_text(
        "\n".join([f"很好的书{i}" for i in range(20)] + ["一般", "很好的书0", ""]), "utf-8"
    )
    (tmp_path / "neg.txt").write_text("\n".join([f"很差的店{i}" for i in range(20)] + ["一般"]), "utf-8")
    data = ChineseReviews(path=str(tmp_path), tokenizer=TOKENIZER)
    data.setup()
    assert np.bincount(data.encoded.codes).tolist() == [20, 20]
    assert data.tokenizer.tokenize("好书") == ["好", "书"]


@pytest.mark.filterwarnings("ignore")
def test_hub_dataset_saved_to_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    frame = toy(50)
    rows = {"text": frame.text.tolist(), "label": [i % 2 for i in range(50)]}
    train = datasets.Dataset.from_dict(rows, features=features)
    hidden = datasets.Dataset.from_dict({"text": ["a b"] * 5, "label": [-1] * 5}, features=features)
    datasets.DatasetDict({"train": train, "test": hidden}).save_to_disk(str(tmp_path / "saved"))
    data = Hub(name=str(tmp_path / "saved"), tokenizer=TOKENIZER)
    data.setup()
    assert data.labels == ["no", "yes"]
    assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 40, "val": 5, "test": 5}
    assert max(rows.max() for rows in data.splits.values()) < 50, (
        "rows of a test split without labels are not tested on"
    )
    with pytest.raises(UserError, match=r"text_column='sentence' is not in .*: text, label"):
        Hub(name=str(tmp_path / "saved"), tokenizer=TOKENIZER, text_column="sentence").setup()
    with pytest.raises(UserError, match=r"train_split='trian' is not in .*: it has train, test"):
        Hub(name=str(tmp_path / "saved"), tokenizer=TOKENIZER, train_split="trian").setup()
    with pytest.raises(UserError, match=r"is no folder and not in the cache at .*add download=true"):
        Hub(name="stanfordnlp/sst2", tokenizer=TOKENIZER).setup()


MISTAKES = {
    "column": (toy(), {"label_column": "topic"}, "label_column='topic' is not in .*, which has: text, label"),
    "split column": (toy(), {"split_column": "part"}, "split_column='part' is not in"),
    "split word": (
        toy().assign(part="trian"),
        {"split_column": "part"},
        "line 2 has 'trian' in the column 'part', which may",
    ),
    "unknown label": (
        toy(),
        {"label_names": ["class 0", "x"]},
        "line 3 has the unknown label 'class 1'; known are class 0, x",
    ),
    "one class": (toy(classes=1), {}, "has only the label 'class 0'"),
    "no labels": (toy().assign(label=""), {}, "has no labels"),
    "empty text": (toy().assign(text=["x", " "] + ["y"] * 58), {}, "the text of line 3 is empty"),
    "no rows": (toy(0), {}, "has no rows"),
    "per class": (toy(), {"per_class": 25}, "per_class=25, but the label 'class 0' has 2. labelled training rows"),
    "per class with several": (toy(), {"per_class": 1, "multi_label": True}, "per_class needs one label a row"),
    "unknown of several": (
        toy(),
        {"multi_label": True, "label_names": ["class 0"]},
        "line 3 has the unknown label 'class 1'",
    ),
    "no validation": (toy(), {"val_fraction": 0.0}, "the val split has no labelled rows"),
    "nothing left": (toy(), {"val_fraction": 0.5, "test_fraction": 0.5}, "leave no labelled training rows"),
    "unlabelled": (toy(), {"unlabelled": "maybe"}, "datamodule.unlabelled is 'maybe', and must be keep or drop"),
    "size": (toy(), {"batch_size": 0}, "datamodule.batch_size is 0, and must be 1 or more"),
    "trained tokenizer": (toy(), {"tokenizer": "train:bpe:100"}, "write train:wordpiece:SIZE"),
    "tokenizer": (toy(), {"tokenizer": "nobody/nothing"}, "no tokenizer can be loaded from 'nobody/nothing'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_before_training(tmp_path, mistake):
    frame, options, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message):
        table(frame, tmp_path, **options).check_labels()


def test_texts_alone_are_split_and_every_split_is_evaluated(tmp_path):
    data = table(toy()[["text"]], tmp_path, label_column=None, train_rows=None)
    assert data.labels == [] and not any(data.label_counts)
    sizes = {name: len(rows) for name, rows in data.splits.items()}
    assert sum(sizes.values()) == len(toy()) and min(sizes.values()) > 0
    for name in sizes:
        assert sum(len(batch.row) for batch in data.evaluate_rows(name)) == sizes[name]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.doc", b"x", "can be .csv, .tsv, .jsonl, .ndjson, .json, .parquet or .xlsx"),
        ("a.csv", b'text,label\n"a', "cannot be read as csv"),
        ("a.csv", b"", "cannot be read as csv"),
        ("a.csv", b"text,label\n\xff\xfe\xff,x", r"is not UTF-8 \(byte 0xff in line 2\)"),
        ("a.jsonl", b"{", "cannot be read as jsonl"),
        ("a.parquet", b"x", "cannot be read as parquet"),
        (None, b"", "there is no file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    if name:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        Table(path=str(tmp_path / (name or "a.csv")), tokenizer=TOKENIZER).setup()


def test_unwritable_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDLAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"the cache at .* cannot be written"):
        table(toy(), tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_hub_dataset_follows_the_same_rules_as_a_table(tmp_path):
    datasets = pytest.importorskip("datasets")
    texts = [f"film {number}" for number in range(30)]
    names = datasets.ClassLabel(names=["dull", "long", "loud"])
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.Sequence(names)})
    several = {"text": texts, "label": [[], [0, 2], [1]] * 10}
    datasets.Dataset.from_dict(several, features=features).save_to_disk(str(tmp_path / "several"))
    data = Hub(name=str(tmp_path / "several"), tokenizer=TOKENIZER, multi_label=True, val_fraction=0.2)
    data.setup()
    assert data.labels == ["dull", "long", "loud"] and data.multi_label
    assert data.encoded.codes[:3].tolist() == [[0, 0, 0], [1, 0, 1], [0, 1, 0]]
    with pytest.raises(UserError, match=r"row 1 of train has a list in the column 'label'.*multi_label=true"):
        Hub(name=str(tmp_path / "several"), tokenizer=TOKENIZER).corpus()
    pairs = {"a": texts, "b": texts, "label": [1.0, 0.0, -1.0] * 10}
    part = datasets.Dataset.from_dict(pairs)
    datasets.DatasetDict({"train": part, "test": part.select(range(4))}).save_to_disk(str(tmp_path / "pairs"))
    options = {"name": str(tmp_path / "pairs"), "tokenizer": TOKENIZER, "text_column": ["a", "b"]}
    mapped = Hub(**options, label_map={0: "no", 1: "yes"}).corpus()
    assert mapped.labels[:3] == ["yes", "no", None] and mapped.values[0] == "film 0\x1ffilm 0"
    with pytest.raises(UserError, match=r"3 train rows have a text of the test split too \(first: row 1 of train\)"):
        Hub(**options).setup()
    frame = datasets.Dataset.from_dict({"text": [{"en": "a"}], "label": ["x"]})
    frame.save_to_disk(str(tmp_path / "mapping"))
    with pytest.raises(UserError, match="row 1 of train has a mapping in the column 'text'"):
        Hub(name=str(tmp_path / "mapping"), tokenizer=TOKENIZER).corpus()
