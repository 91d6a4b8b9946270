"""What differs between the dialogues of a student and those of its teacher, so that the teacher would mislead it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdlab.datamodule.dialogue import ASSISTANT, Dialogue, Message

if TYPE_CHECKING:
    from kdlab.datamodule.processor.chat import Chat

TALK = Dialogue(tuple(Message(role, text) for text in "12" for role in ("user", ASSISTANT)))


def clashes(student: Chat, teacher: Chat) -> list[str]:
    """Sentences about what makes a student learn to go on where it should stop.

    The teacher reads the student's rows, whose answers end as the student's chat template writes it. A teacher that
    ends its texts with another token gives that one next to no probability.
    """
    known = dict.fromkeys(one for one in (teacher.stop, teacher.tokenizer.eos_token_id) if one is not None)
    if not student.equals(teacher) or student.stop is None or student.stop in known:
        return []
    ends = " and ".join(_named(teacher, one) for one in known) or "nothing"
    return [
        f"the student's answers end with {_named(student, student.stop)}, but its teacher ends texts with {ends}: the "
        "student would learn not to stop; set student.tokenizer to the teacher's folder, or choose a teacher that was "
        "trained on such dialogues"
    ]


def differences(student: Chat, teacher: Chat) -> list[str]:
    """Sentences about other things that differ, for which a teacher may give worse targets."""
    found = []
    first, other = begins(student), begins(teacher)
    if (first is None) != (other is None):
        which, name = ("student", _named(student, first)) if first is not None else ("teacher", _named(teacher, other))
        found.append(f"only the dialogues of the {which} begin with {name}, as their chat templates write them")
    if not student.equals(teacher):
        return found
    end, teacher_end = student.tokenizer.eos_token_id, teacher.tokenizer.eos_token_id
    if end != teacher_end:
        found.append(
            f"the tokenizers end texts with different tokens: {_named(student, end)} the student's, "
            f"{_named(teacher, teacher_end)} the teacher's"
        )
    if not teacher.template.given and student.template.given:
        found.append("the teacher has no chat template, and the student has one: was it trained on dialogues?")
    elif _written(student) != _written(teacher):
        found.append(
            "the chat templates of student and teacher differ, and the teacher reads dialogues as the student's writes "
            "them: set student.tokenizer to the teacher's folder for the template that it was trained with"
        )
    return found


def begins(processor: Chat) -> int | None:
    """The id that begins every text of a tokenizer, where dialogues begin with it; None: they do not."""
    tokenizer = processor.tokenizer
    ids = tokenizer(_written(processor), add_special_tokens=False)["input_ids"][:1]
    known = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None}
    turns = processor.template.prompt and ids and tokenizer.decode(ids) in processor.template.prompt
    return ids[0] if ids and ids[0] in known and not turns else None


def _written(processor: Chat) -> str:
    try:
        return processor.template.render(TALK)
    except ValueError:
        return ""


def _named(processor: Chat, token: int | None) -> str:
    return "none" if token is None else f"'{processor.tokenizer.convert_ids_to_tokens(int(token))}' ({token})"
