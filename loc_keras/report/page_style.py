"""The style sheet that all pages share: screen, phone and paper."""

from loc_keras.report.style import BLUE, FAINT, INK, MUTED, PAPER, WRONG_INK

CSS = f"""
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }}
body {{ margin: 0 auto; max-width: 1080px; padding: 32px 28px 80px; background: {PAPER};
  color: {INK}; font: 15px/1.5 "DejaVu Sans", Verdana, Helvetica, Arial, sans-serif; }}
h1 {{ font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }}
h2 {{ font-size: 19px; margin: 44px 0 10px; padding-bottom: 5px;
  border-bottom: 1px solid {FAINT}; }}
h3 {{ font-size: 15px; margin: 26px 0 6px; overflow-wrap: anywhere; }}
p {{ margin: 4px 0 10px; max-width: 76ch; overflow-wrap: anywhere; }}
.quiet {{ color: {MUTED}; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 6px; }}
.card {{ border: 1px solid {FAINT}; border-radius: 6px; padding: 10px 18px; min-width: 116px; }}
.card b {{ display: block; font-size: 24px; line-height: 1.25;
  font-variant-numeric: tabular-nums; }}
.card span {{ color: {MUTED}; font-size: 13px; }}
.error b {{ color: {WRONG_INK}; }}
.scroll {{ overflow-x: auto; margin: 8px 0 14px; }}
table {{ border-collapse: collapse; font-size: 13.5px; }}
th {{ text-align: left; font-weight: bold; color: {MUTED}; border-bottom: 1px solid {MUTED};
  padding: 4px 18px 4px 0; vertical-align: bottom; }}
td {{ border-bottom: 1px solid {FAINT}; padding: 4px 18px 4px 0; vertical-align: top;
  overflow-wrap: anywhere; }}
tbody th {{ font-weight: normal; color: {INK}; border-bottom: 1px solid {FAINT};
  vertical-align: top; overflow-wrap: anywhere; }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
a {{ color: {BLUE}; text-decoration: none; }}
a:hover {{ text-decoration: underline; }}
.gallery {{ display: flex; flex-wrap: wrap; gap: 14px; margin: 10px 0; align-items: flex-end; }}
figure {{ margin: 0; max-width: 210px; }}
figure img {{ display: block; border: 1px solid {FAINT}; max-width: 210px; max-height: 210px; }}
figcaption {{ font-size: 12px; line-height: 1.35; color: {MUTED}; margin-top: 4px;
  overflow-wrap: anywhere; }}
.chart {{ display: block; height: auto; max-width: 100%; margin: 8px 0 14px; }}
details {{ margin: 4px 0 12px; }}
summary {{ cursor: pointer; color: {BLUE}; font-size: 13.5px; }}
@media (max-width: 600px) {{
  body {{ padding: 20px 14px 60px; }}
  h1 {{ font-size: 22px; }}
  th, td {{ padding-right: 12px; }}
  td:not(.n) {{ min-width: 5.5em; }}
  .card {{ flex: 1 1 40%; padding: 8px 12px; min-width: 0; }}
  .card b {{ font-size: 21px; }}
}}
@media print {{
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
  body {{ max-width: none; padding: 0; font-size: 12px; }}
  h2, h3, h4, summary, p:not(:last-child) {{ break-after: avoid; }}
  figure, p, tr, .card, .chart, .whole {{ break-inside: avoid; }}
  thead {{ display: table-header-group; }}
  table {{ font-size: 11px; }}
  th, td {{ padding-right: 12px; }}
  .scroll {{ overflow: visible; }}
  /* What is folded on screen is opened on paper: the first rule is for browsers that put the
     content of details into a part of its own, the second for those that do not. */
  details::details-content {{ content-visibility: visible; display: block; block-size: auto; }}
  details > * {{ display: block; }}
}}
"""
