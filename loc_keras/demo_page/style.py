"""The page's style sheet, on top of the theme's colours, for screens and phones, light and dark."""

from loc_keras.report.style import BLUE, PREDICTION, WRONG

CSS = f"""
.gradio-container {{ max-width: 1180px !important; margin: 0 auto !important; }}
footer {{ display: none !important; }}
.demo-head h1 {{ font-size: 22px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }}
.demo-head p {{ margin: 2px 0 0; color: var(--body-text-color-subdued); overflow-wrap: anywhere; }}
.demo-answer {{ display: flex; flex-direction: column; gap: 10px; }}
.demo-picture {{ max-width: 100%; max-height: 62vh; width: auto; height: auto; margin: 0 auto;
  border-radius: 6px; }}
.demo-label {{ font-size: 22px; margin: 4px 0 0; display: flex; gap: 12px; align-items: baseline;
  justify-content: space-between; }}
.demo-label span {{ overflow-wrap: anywhere; }}
.demo-label b {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
.demo-fact, .demo-size {{ margin: 0; overflow-wrap: anywhere; }}
.demo-size {{ color: var(--body-text-color-subdued); }}
.demo-answer table {{ width: 100%; border-collapse: collapse; font-size: 14px; margin: 0; }}
.demo-answer th, .demo-answer td {{ border: 0; padding: 4px 8px 4px 0; text-align: left;
  font-weight: 400; vertical-align: middle; }}
.demo-answer td:last-child, .demo-boxes td, .demo-boxes thead th + th {{ text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; padding-right: 0; }}
.demo-classes th {{ width: 34%; overflow-wrap: anywhere; }}
.demo-classes td:last-child {{ width: 5em; }}
.demo-bar i {{ display: block; min-width: 1px; height: 10px; border-radius: 3px;
  background: {BLUE}; }}
.demo-boxes thead th {{ color: var(--body-text-color-subdued); }}
.demo-boxes tbody tr {{ border-top: 1px solid var(--border-color-primary) !important; }}
.demo-boxes i {{ display: inline-block; width: 15px; height: 15px; margin-right: 8px;
  vertical-align: -2px; background: #777; }}
.demo-box i {{ border: 3px solid {PREDICTION}; }}
.demo-outer i {{ border: 2px dashed #fff; }}
.demo-inner i {{ border: 2px solid {BLUE}; background: #fff; }}
.demo-hint, .demo-sorry {{ margin: 0; padding: 16px; border-radius: 6px; overflow-wrap: anywhere;
  border: 1px dashed var(--border-color-primary); }}
.demo-hint {{ color: var(--body-text-color-subdued); }}
.demo-sorry {{ border: 1px solid {WRONG}; border-left-width: 5px; }}
@media (max-width: 640px) {{
  .gradio-container {{ padding: 8px !important; }}
  .demo-answer table {{ font-size: 13px; }}
  .demo-answer th, .demo-answer td {{ padding-right: 4px; }}
  .demo-picture {{ max-height: none; }}
}}
"""
