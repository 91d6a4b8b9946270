"""Chat templates as models of several families have them, tokenizers that can render them, and made-up dialogues."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from kdlab.datamodule.dialogue import Dialogue, Message

END = "<|im_end|>"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMOLLM = (  # of SmolLM2-135M-Instruct
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou "
    "are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (  # adds a begin of text, and trims contents
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA2 = (  # has no generation prompt, and spaces around contents
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('System role not supported') }}{% endif %}{% endfor %}"
)
THINKING = (  # puts an empty thought before the last answer alone, as Qwen3 does
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ENDLESS = "{% for m in messages %}{{ '### ' + m['role'] + '\n' + m['content'] + '\n' }}{% endfor %}"
TEMPLATES = {
    "chatml": CHATML, "smollm": SMOLLM, "llama3": LLAMA3, "llama2": LLAMA2, "thinking": THINKING, "endless": ENDLESS,
}  # fmt: skip
STOPS = {"llama3": "<|eot_id|>", "llama2": "</s>", "endless": "</s>"}  # of the others it is END
SPECIAL = ["<s>", "</s>", "<|im_start|>", END, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
WORDS = ["the", "film", "is", "a", "good", "story", "with", "great", "actors", "很好", "für", "Élan", "🙂", "x = 1"]


@cache
def byte_level(template: str | None = None, eos: str = "</s>") -> PreTrainedTokenizerFast:
    """A byte-level BPE as GPT-2 has one, with all of the special tokens; its padding is its end of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder, tokenizer.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=sorted(alphabet))
    tokenizer.train_from_iterator([" ".join(WORDS)] * 3 + ["user assistant system"], trainer)
    found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos, pad_token=eos)
    found.chat_template = TEMPLATES.get(template or "", template)
    return found


def talk(exchanges: int = 2, seed: int = 0, system: str | None = None) -> Dialogue:
    """A dialogue of random words, the same for a seed."""
    draw = random.Random(seed)
    messages = [Message("system", system)] if system else []
    for _ in range(exchanges):
        for role in ("user", "assistant"):
            messages.append(Message(role, " ".join(draw.choices(WORDS, k=draw.randint(1, 6)))))
    return Dialogue(tuple(messages), f"row {seed}")


def written(path: Path, rows: list[dict]) -> Path:
    """Rows as a jsonl file."""
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return path


def chats(path: Path, count: int = 60, exchanges: int = 2) -> Path:
    """A jsonl file of dialogues."""
    rows = [
        {
            "messages": [{"role": m.role, "content": m.content} for m in talk(1 + n % exchanges, n).messages],
            "mood": n % 3,
        }
        for n in range(count)
    ]
    return written(path, rows)
