"""Train the two exported stages with the Trainer of transformers. Called by ``stages.py``."""

from __future__ import annotations

import runpy
from pathlib import Path

import transformers
from letters_model import print_history, write_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)


def main() -> None:
    write_model(Path("model"))
    tokenizer = AutoTokenizer.from_pretrained("model")
    module = runpy.run_path("mixture.py")

    def pack(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        texts = [text + tokenizer.eos_token for text in batch["text"]]
        ids = [token for of in tokenizer(texts)["input_ids"] for token in of]
        length = module["SEQUENCE_TOKENS"]
        whole = range(0, len(ids) - length + 1, length)
        return {"input_ids": [ids[start : start + length] for start in whole]}

    for stage, arguments in module["TRAINING_ARGUMENTS"].items():
        documents = module["load_mixture"](stage).select(range(2000))
        trainer = Trainer(
            AutoModelForCausalLM.from_pretrained("model"),
            TrainingArguments("out", **arguments, logging_steps=1, report_to="none"),
            DataCollatorForLanguageModeling(tokenizer, mlm=False),
            documents.map(pack, batched=True, remove_columns=documents.column_names),
        )
        resumed = "resume_from_checkpoint" in arguments
        trainer.train(resume_from_checkpoint="out/checkpoint-30" if resumed else None)
    print_history("transformers", transformers.__version__, Path("out/checkpoint-40"))


if __name__ == "__main__":
    main()
