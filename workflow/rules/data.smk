# A checkpoint: whether there is a test split is known only once the dataset is here.
checkpoint fetch_dataset:
    output:
        "results/{dataset}/source/index.json",
    log:
        "results/{dataset}/logs/fetch.log",
    conda:
        "../envs/ccnet.yaml"
    params:
        layout=option("--layout", config["dataset"]["layout"]),
        source=option("--source", expanded(config["dataset"]["source"])),
        classes=option("--classes", expanded(config["dataset"]["classes"])),
        val_share=option("--val-share", config["dataset"]["val_share"]),
        image_ending=option("--image-ending", config["dataset"]["image_ending"]),
        label_ending=option("--label-ending", config["dataset"]["label_ending"]),
        state=source_state,
    shell:
        "trap : TERM; ccnet fetch --dataset {wildcards.dataset} {params.layout} {params.source} {params.classes}"
        " {params.val_share} {params.image_ending} {params.label_ending}"
        " --out results/{wildcards.dataset}/source 2>&1 | (trap '' INT TERM; exec tee {log})"


rule inspect_dataset:
    input:
        "results/{dataset}/source/index.json",
    output:
        report(
            "results/{dataset}/inspect.html",
            caption="../report/inspect.rst",
            category="Summary",
            labels={"dataset": "{dataset}", "what": "inspection"},
        ),
    log:
        "results/{dataset}/logs/inspect.log",
    conda:
        "../envs/ccnet.yaml"
    shell:
        "ccnet inspect {input} --out {output} 2> {log}"


rule prepare_shard:
    input:
        "results/{dataset}/source/index.json",
    output:
        "results/{dataset}/shards/{split}-{shard}-of-{shards}.h5",
    log:
        "results/{dataset}/logs/prepare-{split}-{shard}-of-{shards}.log",
    conda:
        "../envs/ccnet.yaml"
    params:
        max_size=option("--max-size", config["dataset"]["max_size"]),
        limit=lambda wildcards: option(
            "--limit", config["dataset"]["limit"][wildcards.split]
        ),
        on_bad_pair=config["dataset"]["on_bad_pair"],
    shell:
        "ccnet prepare {input} --split {wildcards.split} --shard {wildcards.shard} --of {wildcards.shards}"
        " {params.max_size} {params.limit} --on-bad-pair {params.on_bad_pair} --out {output} 2> {log}"


rule verify_shards:
    input:
        shards("train", "val"),
        lambda wildcards: shards(*tested()),
    output:
        "results/{dataset}/labels.json",
    log:
        "results/{dataset}/logs/verify.log",
    conda:
        "../envs/ccnet.yaml"
    shell:
        "ccnet verify {input} --out {output} 2> {log}"


localrules:
    fetch_dataset,
