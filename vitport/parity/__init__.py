"""What `verify` and its kin are made of, beside the stories themselves.

values      rules and verdicts: gate_rules, policy, judging; numbers: comparison, loss, gradient_parts; documents:
            report_schema, run_schema, report_file, contradictions, golden_file; what is fed: image_sets
processes   measuring and tapping run in a backend's child; bench and outputs_store are the parent's side
stories     trials plans, run_report and assembling make the report, with machine and diagnosis
"""
