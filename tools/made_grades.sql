-- Grades of a made fleet in short; they read its devices and estimates.
-- The distribution function of the normal distribution, off by less than 0.0002.
CREATE OR REPLACE MACRO phi(z) AS 1 / (1 + exp(-greatest(-30, least(30, 1.5976 * z + 0.07056 * z * z * z))));

CREATE OR REPLACE VIEW made_verdicts AS
    WITH spread AS (
        SELECT *, ln(decode_tokens_per_second_high / decode_tokens_per_second) / getvariable('quantile') AS sd,
            memory_bytes <= getvariable('memory_share') * memory_available_bytes AS fits FROM estimates),
    graded AS (
        SELECT *,
            CASE WHEN fits THEN phi(ln(decode_tokens_per_second / getvariable('comfortable_decode')) / sd)
                * phi(ln(getvariable('comfortable_first') / time_to_first_token_seconds) / sd) ELSE 0 END AS comfortable_probability,
            CASE WHEN fits THEN phi(ln(decode_tokens_per_second / getvariable('usable_decode')) / sd)
                * phi(ln(getvariable('usable_first') / time_to_first_token_seconds) / sd) ELSE 0 END AS usable_probability
        FROM spread)
    SELECT *, CASE WHEN NOT fits THEN 'does_not_fit'
        WHEN decode_tokens_per_second >= getvariable('comfortable_decode')
            AND time_to_first_token_seconds <= getvariable('comfortable_first') THEN 'comfortable'
        WHEN decode_tokens_per_second >= getvariable('usable_decode')
            AND time_to_first_token_seconds <= getvariable('usable_first') THEN 'usable' ELSE 'too_slow' END AS verdict,
        CASE verdict WHEN 'comfortable' THEN [] WHEN 'does_not_fit' THEN ['needs more memory than may be used']
            ELSE ['too slow'] END AS reasons, getvariable('limits_version') AS limits_version
    FROM graded;

CREATE OR REPLACE VIEW made_tiers AS
    SELECT device_id, run_id, any_value(source) AS source,
        arg_max(size_class, (rank, decode)) FILTER (verdict = 'comfortable') AS tier,
        arg_max(comfortable_probability, (rank, decode)) FILTER (verdict = 'comfortable') AS tier_probability,
        arg_max(scheme, (rank, decode)) FILTER (verdict = 'comfortable') AS scheme,
        arg_max(size_class, rank) FILTER (verdict IN ('comfortable', 'usable')) AS usable_tier,
        CASE WHEN tier IS NOT NULL THEN 'cpu' END AS execution_provider, 'bandwidth' AS limited_by,
        getvariable('limits_version') AS limits_version, getvariable('formula') AS formula_version
    FROM (SELECT v.*, e.decode_tokens_per_second AS decode, m.rank
          FROM made_verdicts AS v JOIN estimates AS e USING (run_id, architecture, scheme)
              JOIN (SELECT DISTINCT model AS architecture, rank FROM models) AS m USING (architecture)
              SEMI JOIN devices USING (run_id))
    GROUP BY device_id, run_id
    ORDER BY device_id;
