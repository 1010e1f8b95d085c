"""How a report looks, on top of how a preview does; light and dark."""

from typing import Final

OWN_STYLE: Final = """
:root { --good: #2f6f64; --fair: #d9a63a; --bad: #b4472f; --on-good: #fff; --on-fair: #22222a;
  --on-bad: #fff; }
@media (prefers-color-scheme: dark) { :root { --good: #3f8f80; --fair: #c79a3c; --bad: #c05a41;
  --on-fair: #17181b; } }
.lead { font-size: clamp(21px, 3.4vw, 32px); line-height: 1.3; max-width: 34em; margin: 26px 0 4px;
  text-wrap: pretty; }
.lead strong { white-space: nowrap; }
.saved { font-size: clamp(26px, 4.6vw, 44px); line-height: 1.2; font-weight: 700; margin: 12px 0;
  color: var(--fill); max-width: none; }
.lost { color: var(--alarm); }
.stack { display: flex; height: 34px; border-radius: 8px; overflow: hidden; margin: 18px 0 8px;
  background: var(--line); }
.stack i { font-style: normal; font-size: 14px; font-weight: 650; display: flex;
  align-items: center; justify-content: center; overflow: hidden; white-space: nowrap; }
.stack.small { height: 12px; margin: 0; border-radius: 6px; min-width: 90px; }
.good { background: var(--good); color: var(--on-good); }
.fair { background: var(--fair); color: var(--on-fair); }
.bad { background: var(--bad); color: var(--on-bad); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 15px; margin: 0 0 14px;
  padding: 0; list-style: none; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  margin-right: 7px; }
.note p:last-child { margin: 0; }
.note p { max-width: none; }
.note { background: var(--note); border-radius: 8px; padding: 12px 16px; max-width: 85ch; }
.chart { width: 100%; max-width: 620px; height: auto; display: block; }
.chart text { font-size: 13px; fill: var(--faint); }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .line { stroke: var(--fill); stroke-width: 2.5; fill: none; }
.chart .dot { fill: var(--fill); }
.chart .bubble { fill: var(--fill); fill-opacity: .75; stroke: var(--card); }
.chart .ideal, .chart .change { stroke: var(--faint); stroke-dasharray: 5 4; fill: none; }
.beside { display: grid; gap: 8px 40px; align-items: center; margin-bottom: 18px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
details { margin: 10px 0; }
summary { cursor: pointer; font-weight: 600; padding: 6px 0; }
:focus-visible { outline: 3px solid var(--fill); outline-offset: 2px; border-radius: 4px; }
.worst { display: grid; gap: 26px; }
.worst h3 { font-size: 16px; margin: 0 0 8px; font-weight: 600; overflow-wrap: anywhere; }
.four { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; margin: 0; padding: 0;
  list-style: none; }
.four img, .four .none { width: 100%; display: block; border-radius: 8px; background: var(--line); }
.four .none { padding: 14px; font-size: 13px; min-height: 90px; overflow-wrap: anywhere; }
.four span { font-size: 13px; color: var(--faint); }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 5px 0 2px; }
.advice { display: grid; gap: 10px; padding: 0; list-style: none; }
.advice li { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 16px; }
.advice code { display: block; margin-top: 6px; overflow-wrap: anywhere; }
a { color: var(--fill); }
td.num, th.num { text-align: right; white-space: nowrap; }
td .faint { font-size: 13px; }
.verdict { border-left: 4px solid var(--line); padding: 4px 0 4px 14px; margin: 12px 0; }
.verdict.on { border-color: var(--fill); }
@media (max-width: 640px) { .four { grid-template-columns: 1fr 1fr; }
  .stack i { font-size: 13px; } .chart text { font-size: 16px; } }
@media print { details > * { display: block; } }
"""
