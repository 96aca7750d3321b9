rule write_settings:
    input:
        pretrained=lambda wildcards: pretrained(wildcards.run),
    output:
        "results/{dataset}/{run}/settings.json",
    log:
        "results/{dataset}/logs/settings-{run}.log",
    conda:
        "../envs/ccnet.yaml"
    params:
        recipe=lambda wildcards: json.dumps(settings(wildcards.run), sort_keys=True),
        pretrained=lambda wildcards, input: option(
            "--pretrained", input.pretrained or None
        ),
    shell:
        "ccnet settings {params.recipe:q} {params.pretrained} --out {output} 2> {log}"


# The file name identifies the weights. Their source is a resource, so that moving it reruns nothing.
rule import_weights:
    output:
        "results/pretrained/{backbone}-{digest}.safetensors",
    log:
        "results/pretrained/logs/{backbone}-{digest}.log",
    conda:
        "../envs/ccnet.yaml"
    resources:
        source=lambda wildcards: expanded(
            PRETRAINED[
                f"results/pretrained/{wildcards.backbone}-{wildcards.digest}.safetensors"
            ]["path"]
        ),
    params:
        sha256=lambda wildcards, output: PRETRAINED[output[0]]["sha256"],
    shell:
        "trap : TERM; ccnet import-weights {resources.source:q} --for {wildcards.backbone} --sha256 {params.sha256}"
        " --out {output} 2>&1 | (trap '' INT TERM; exec tee {log})"


# The file name is what the published weights are called.
rule import_imagenet:
    output:
        "results/pretrained/{imagenet}.safetensors",
    log:
        "results/pretrained/logs/{imagenet}.log",
    conda:
        "../envs/ccnet.yaml"
    shell:
        "trap : TERM; ccnet import-weights {wildcards.imagenet} --out {output} 2>&1 | (trap '' INT TERM; exec tee {log})"


# `checkpoints` is not an output: Snakemake deletes outputs of a failed job, and a killed training resumes from it.
# `device`, `devices` and `workers` are resources: they affect only where and how fast it runs, so changing them reruns
# nothing.
# So is `val`, the shards that are measured on during training: unless they decide on the weights, only the history
# shows them. They exist, since labels.json has read them.
rule train_run:
    input:
        settings="results/{dataset}/{run}/settings.json",
        shards=shards("train"),
        verified=ancient("results/{dataset}/labels.json"),
        pretrained=ancient(lambda wildcards: pretrained(wildcards.run)),
        val=lambda wildcards: deciding_shards(wildcards.run),
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
    threads: threads_per_gpu() * config["devices"]
    resources:
        gpu=config["devices"],
        device=config["device"],
        devices=config["devices"],
        workers=config["workers"],
        val=lambda wildcards: validation_flag(wildcards.run),
    params:
        checkpoints="results/{dataset}/{run}/checkpoints",
        pretrained=lambda wildcards, input: option(
            "--pretrained", input.pretrained or None
        ),
    shell:
        "trap : TERM; ccnet train --settings {input.settings} --shards {input.shards} --checkpoints {params.checkpoints}"
        " {resources.val} {params.pretrained}"
        " --out {output.weights} --history {output.history}"
        " --device {resources.device} --devices {resources.devices} --workers {resources.workers}"
        " 2>&1 | (trap '' INT TERM; exec tee {log})"


localrules:
    write_settings,
    import_weights,
    import_imagenet,
