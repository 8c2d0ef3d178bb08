"""Bulk: lines of logs by the million. Each template is judged once, by the chain; what is left runs over whole blocks.

`blocks` cuts a stream into blocks of lines; `sorting` finds for each line the slot whose verdict it shares; `judging`
gives new slots their verdicts; `writing` writes a line for each record and can go on where it stopped; `summary` says
what was found; `run` is the loop around them.
"""
