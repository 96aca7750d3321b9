rule write_settings:
    output:
        "results/{dataset}/{run}/settings.json",
    log:
        "results/{dataset}/logs/settings-{run}.log",
    conda:
        "../envs/ccnet.yaml"
    params:
        recipe=lambda wildcards: json.dumps(recipe(wildcards.run), sort_keys=True),
    shell:
        "ccnet settings {params.recipe:q} --out {output} 2> {log}"


# `checkpoints` is no output: Snakemake deletes those of a failed job, and a killed training continues from it.
# `device` and `workers` are resources: they say where and how fast, so changing them reruns nothing.
rule train_run:
    input:
        settings="results/{dataset}/{run}/settings.json",
        shards=shards("train"),
        verified=ancient("results/{dataset}/labels.json"),
    output:
        weights="results/{dataset}/{run}/weights.safetensors",
        history=report(
            "results/{dataset}/{run}/history.csv",
            caption="../report/history.rst",
            category="Runs",
            labels={"run": "{run}", "what": "training history"},
        ),
    log:
        "results/{dataset}/logs/train-{run}.log",
    benchmark:
        "results/{dataset}/benchmarks/train-{run}.tsv"
    conda:
        "../envs/ccnet.yaml"
    threads: threads_per_gpu()
    resources:
        gpu=1,
        device=config["device"],
        workers=config["workers"],
    params:
        checkpoints="results/{dataset}/{run}/checkpoints",
    shell:
        "ccnet train --settings {input.settings} --shards {input.shards} --checkpoints {params.checkpoints}"
        " --out {output.weights} --history {output.history}"
        " --device {resources.device} --workers {resources.workers} 2>&1 | tee -i {log}"


localrules:
    write_settings,
