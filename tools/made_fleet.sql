-- The rows of a made fleet (tools/made_fleet.py), of the devices in the table `drawn`. `kinds` and `models` are there
-- before; each view is written to Parquet in the order below, and its file then has its name without `made_`.

-- Random numbers that depend on nothing but their key and their stream: uniform, and normal by Box and Muller. The casts
-- keep decimals away, whose arithmetic takes twenty times as long.
CREATE OR REPLACE MACRO uniform(key, stream) AS ((hash(key, stream) >> 11)::DOUBLE + 0.5::DOUBLE) / 9007199254740992::DOUBLE;
CREATE OR REPLACE MACRO normal(key, stream) AS
    sqrt(-2 * ln(uniform(key, stream))) * cos((2 * pi())::DOUBLE * uniform(key, -stream));
CREATE OR REPLACE MACRO identifier(digits, version) AS
    digits[1:8] || '-' || digits[9:12] || '-' || version || digits[14:16] || '-a' || digits[18:20] || '-' || digits[21:32];

CREATE OR REPLACE TABLE machines AS
    SELECT DISTINCT identifier(md5('machine/' || name || memory), '4') AS hardware_id,
        'Made ' || name || ' ' || memory || ' GiB' AS cpu_model, cpu_architecture,
        cores AS physical_core_count, cores AS logical_core_count, memory * 1073741824 AS memory_total_bytes,
        os_family, name AS form_factor, name AS kind, memory AS memory_gib
    FROM (SELECT *, unnest(memory_gib) AS memory FROM kinds);

CREATE OR REPLACE VIEW made_hardware AS
    FROM machines;

CREATE OR REPLACE TABLE made AS
    SELECT *, hash(getvariable('seed'), number, sequence) AS key, sequence = getvariable('run_count') AS newest,
        number * getvariable('run_count') + sequence AS run_number,
        identifier(md5('device/' || getvariable('seed') || '/' || number), '4') AS device_id,
        TIMESTAMP '2026-02-01' + to_seconds(number % 864000) + to_days(sequence::INTEGER) AS receive_time,
        identifier(lpad(lower(hex(epoch_ms(receive_time))), 12, '0') || md5('run/' || key), '7') AS run_id,
        bandwidth * exp(0.1 * normal(key, 1)) AS run_bandwidth,
        products * exp(0.1 * normal(key, 2)) AS run_products,
        (free_share * memory_total_bytes)::BIGINT AS memory_available_bytes, getvariable('source') AS source
    FROM drawn JOIN machines USING (kind, memory_gib)
        CROSS JOIN (SELECT unnest(range(1, getvariable('run_count') + 1)) AS sequence)
    ORDER BY number, sequence;

CREATE OR REPLACE VIEW made_devices AS
    SELECT *, getvariable('run_count') AS run_count, receive_time AS last_receive_time, cpu_model AS name,
        run_bandwidth AS read_bandwidth_bytes_per_second, (storage_free_gib * 1e9)::BIGINT AS storage_free_bytes,
        'none' AS accelerator_kind, os_family <> 'android' AND memory_gib >= 16 AND storage_free_gib > 22
            AS chrome_built_in_ai,
        false AS copilot_plus_pc, [] AS gate_gaps, 'made' AS gates_version
    FROM made WHERE newest;

CREATE OR REPLACE VIEW made_runs AS
    SELECT *, receive_time AS observe_time, 50 + 10 * uniform(key, 3) AS elapsed_seconds,
        3 AS schema_version, 'made' AS agent_version, 1 AS consent_version, 'standard' AS suite, 1 AS suite_version,
        sha256('made') AS suite_sha256, 1 AS attempt_count, receive_time AS send_time, 0 AS spool_dropped_count,
        0 AS spool_quarantined_count, run_bandwidth AS read_bandwidth_bytes_per_second,
        0.5 * run_bandwidth AS single_thread_read_bandwidth_bytes_per_second,
        (storage_free_gib * 1e9)::BIGINT AS storage_free_bytes, [] AS accelerator_memory_available_bytes,
        sha256(key::VARCHAR) AS run_sha256
    FROM made;

-- Lists that are unnested keep the rows of a run together, where a join and a sort would take many times as long.
CREATE OR REPLACE TABLE asked AS
    WITH numbered AS (
        SELECT *, row_number() OVER (ORDER BY rank, scheme, phase, token_count, context_depth) - 1 AS ord,
            sha256(model) AS graph, sha256(model || '/short') AS short_graph, sha256(model || '/head') AS head_graph
        FROM models CROSS JOIN (
            VALUES ('decode', 1, 16), ('decode', 1, 960), ('prefill', 32, 0), ('prefill', 128, 0), ('prefill', 512, 0)
        ) AS length(phase, token_count, context_depth)
        WHERE measured)
    SELECT list(numbered ORDER BY ord) FILTER (ord < getvariable('measurement_count')) AS measurements,
        (SELECT list(models ORDER BY rank, scheme) FROM models) AS models
    FROM numbered;

CREATE OR REPLACE VIEW made_measurements AS
    SELECT run_id, run_number, device_id, source, one.*, 'layer_probe' AS kind, 'onnxruntime' AS runtime,
        'cpu' AS requested_execution_provider, 'cpu' AS execution_provider, logical_core_count AS threads,
        36 AS sample_count, exp(0.05 * normal(key, 100 + one.ord)) * 4 / one.layers * CASE one.phase
            WHEN 'decode' THEN (one.bytes_read_per_token + one.context_depth * one.cache_bytes_per_token) / run_bandwidth
            ELSE one.token_count * one.products_per_token / run_products END AS median_seconds,
        (one.bytes_read_per_token / one.layers * 4)::BIGINT AS peak_memory_bytes, 1.0 AS output_correlation,
        0.001 AS output_relative_rms, 4 AS probe_layers, 1 AS short_probe_layers, 4096 AS head_columns,
        one.graph AS layers_graph_sha256, one.short_graph AS short_layers_graph_sha256,
        one.head_graph AS head_graph_sha256
    FROM (SELECT made.*, unnest(measurements) AS one FROM made CROSS JOIN asked);

-- A model that needs much more than is free was stopped before it ran: it has no speeds.
CREATE OR REPLACE VIEW made_estimates AS
    WITH truth AS (
        SELECT *, 1000 + 4 * one.rank + 2 * (one.scheme = 'int4_block32')::INTEGER AS stream,
            CASE WHEN one.rank <= 6 THEN 0.11 ELSE 0.16 + 0.02 * one.rank END AS sd,
            one.measured AND one.memory_bytes > 4 * memory_available_bytes AS stopped,
            getvariable('decode_context_depth') * one.cache_bytes_per_token AS cache_bytes,
            (one.bytes_read_per_token + cache_bytes) / run_bandwidth + 0.002 AS decode_seconds,
            getvariable('prompt_tokens') * one.products_per_token / run_products + decode_seconds AS first_seconds
        FROM (SELECT made.*, unnest(models) AS one FROM made CROSS JOIN asked)),
    estimated AS (
        SELECT *, exp(getvariable('quantile') * sd) AS factor,
            CASE WHEN NOT stopped THEN exp(sd * normal(key, stream)) / decode_seconds END AS decode,
            CASE WHEN NOT stopped THEN exp(sd * normal(key, stream + 1)) * first_seconds END AS first,
            getvariable('prompt_tokens') / first AS prefill
        FROM truth)
    SELECT run_id, run_number, device_id, source, one.* EXCLUDE (architecture), one.model AS architecture,
        'decoder' AS architecture_kind, 'cpu' AS execution_provider, 'onnxruntime' AS runtime,
        logical_core_count AS threads, decode AS decode_tokens_per_second,
        decode / factor AS decode_tokens_per_second_low, decode * factor AS decode_tokens_per_second_high,
        prefill AS prefill_tokens_per_second, prefill / factor AS prefill_tokens_per_second_low,
        prefill * factor AS prefill_tokens_per_second_high, first AS time_to_first_token_seconds,
        first / factor AS time_to_first_token_seconds_low, first * factor AS time_to_first_token_seconds_high,
        memory_available_bytes, true AS counts, [] AS notes,
        CASE WHEN stopped THEN 'formula' WHEN sd < 0.15 THEN 'layer_probe' ELSE 'interpolated' END AS basis,
        getvariable('prompt_tokens') AS prompt_tokens, getvariable('decode_context_depth') AS decode_context_depth,
        getvariable('memory_context_tokens') AS memory_context_tokens, getvariable('encoder_tokens') AS encoder_tokens,
        getvariable('interval_probability') AS interval_probability, getvariable('formula_version') AS formula_version
    FROM estimated;
