# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From the recommendation to a trainer
#
# The large run is trained by another trainer. A share of dcpt is a share of tokens. Many trainers
# draw documents instead, so the same number in their configuration gives another mixture. This
# notebook writes the configuration with the shares in the trainer's own unit.

# %%
import dcpt

runs = dcpt.bundled_runs("zh_annealed")
runs.to_csv("runs.csv", index=False)
runs["run"].nunique()

# %% [markdown]
# ## Fit and recommend

# %%
# !dcpt fit runs.csv --out fit

# %%
# !dcpt recommend fit --n-params 29.1M --n-tokens 44M --limit +3% --base-loss general=2.775 --base-peak-learning-rate 1e-3

# %% [markdown]
# ## A trainer that counts tokens
#
# Megatron-LM draws sequences, so its weights are shares of tokens. The head of the file repeats the
# recommendation with its interval and its evidence.

# %%
# !dcpt export fit --to megatron --batch-sequences 64 --sequence-tokens 1024 --out megatron
# !cat megatron/*

# %% [markdown]
# ## A trainer that draws documents
#
# If general documents have 2,400 tokens and domain documents 40, a weight of documents is far from
# a share of tokens. Give the mean lengths; dcpt computes the weights.

# %%
# !dcpt export fit --to llama-factory --batch-sequences 64 --sequence-tokens 1024 --tokens-per-document general=2400 --tokens-per-document domain=40 --out llama-factory
# !cat llama-factory/*.yaml

# %% [markdown]
# ## Watch the run
#
# `dcpt watch fit --log ...` reads what the large run logs and compares it with the prediction, so
# that a wrong share is noticed long before the end.
