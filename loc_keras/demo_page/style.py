"""The page's style sheet, on top of the theme's colours, for screens and phones, light and dark."""

from loc_keras.report.style import BLUE, PREDICTION, WRONG

CSS = f"""
.gradio-container {{ width: 100% !important; max-width: 1180px !important;
  margin: 0 auto !important; }}
footer {{ display: none !important; }}
.demo-head h1 {{ font-size: 22px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }}
.demo-head p {{ margin: 2px 0 0; opacity: 0.7; overflow-wrap: anywhere; }}
.demo-answer {{ display: flex; flex-direction: column; gap: 10px; }}
.demo-picture {{ max-width: 100%; max-height: 62vh; width: auto; height: auto; margin: 0 auto;
  border-radius: 6px; outline: 1px solid var(--border-color-primary); }}
.demo-label {{ font-size: 22px; margin: 4px 0 0; display: flex; gap: 12px; align-items: baseline;
  justify-content: space-between; }}
.demo-label span {{ overflow-wrap: anywhere; }}
.demo-label b {{ white-space: nowrap; font-variant-numeric: tabular-nums; }}
.demo-fact, .demo-size {{ margin: 0; overflow-wrap: anywhere; }}
.demo-size {{ opacity: 0.7; }}
.demo-answer table {{ width: 100%; border-collapse: collapse; font-size: 14px; margin: 0; }}
.demo-answer th, .demo-answer td {{ border: 0; padding: 4px 8px 4px 0; text-align: left;
  font-weight: 400; vertical-align: middle; }}
.demo-label span {{ font-weight: 600; }}
.demo-answer td:last-child, .demo-boxes td, .demo-boxes thead th + th {{ text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; padding: 4px 0 4px 10px; }}
.demo-classes th {{ width: 34%; overflow-wrap: anywhere; }}
.demo-classes td:last-child {{ width: 5em; }}
.demo-bar i {{ display: block; min-width: 1px; height: 10px; border-radius: 3px;
  background: {BLUE}; }}
.demo-boxes thead th {{ opacity: 0.7; }}
.demo-boxes tbody tr {{ border-top: 1px solid var(--border-color-primary); }}
.demo-boxes i {{ display: inline-block; width: 24px; height: 16px; margin-right: 8px;
  vertical-align: -3px; background: #555; box-shadow: 0 0 0 1px #555; }}
.demo-box i {{ border: 3px solid {PREDICTION}; }}
.demo-outer i {{ border: 2px dashed #fff; }}
.demo-inner i {{ border: 2px solid {BLUE}; background: #fff; }}
.demo-hint, .demo-sorry {{ margin: 0; padding: 16px; border-radius: 6px; overflow-wrap: anywhere;
  border: 1px dashed var(--border-color-primary); }}
.demo-hint {{ opacity: 0.7; }}
.demo-sorry {{ border: 1px solid {WRONG}; border-left-width: 5px; }}
@media (max-width: 640px) {{
  .gradio-container {{ padding: 8px !important; }}
  .demo-answer table {{ font-size: 13px; }}
  .demo-answer th {{ padding-right: 0; }}
  .demo-boxes td, .demo-boxes thead th + th {{ padding-left: 7px; }}
  #demo-image {{ height: 250px !important; }}
  .demo-picture {{ max-height: none; }}
}}
"""
