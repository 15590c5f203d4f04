"""The style sheet of everything that is not a Streamlit widget."""

from __future__ import annotations

from mobius_dashboards.theme import Palette

__all__ = ["css"]

_RULES = """
.stSidebar [data-testid="stSidebarHeader"]{height:2.2rem;margin:0}.stSidebar [data-testid="stButtonGroup"] button{padding:.2rem .1rem;min-width:0}.stSidebar [data-testid="stButtonGroup"] button p{font-size:.86rem}
.stMainBlockContainer{max-width:1360px;padding:3.2rem 2.6rem 4rem}
.mr-num,.mr-table td.num,.mr-table th.num,.mr-facts dd,.mr-iv+span{font-variant-numeric:tabular-nums}
.mr-crumbs{color:var(--muted);font-size:.87rem;margin-bottom:.3rem}
.mr-crumbs a{color:var(--link);text-decoration:none}.mr-crumbs a:hover{text-decoration:underline}
.mr-head{font-size:1.85rem;line-height:1.22;font-weight:650;letter-spacing:-.012em;margin:0 0 .35rem;color:var(--ink);text-wrap:balance}
.mr-sub{color:var(--muted);font-size:.95rem;margin:0;line-height:1.5}
.mr-eyebrow{font-size:1.05rem;margin:0 0 .45rem;color:var(--ink)}.mr-eyebrow .mr-chip{margin-left:.6rem}.mr-eyebrow .mr-method{font-size:.85rem}
.mr-dense td,.mr-dense th{padding:.32rem .6rem!important;font-size:.87rem}
.mr-h2{font-size:1.12rem;font-weight:650;margin:1.5rem 0 .15rem;color:var(--ink)}
.mr-lead{color:var(--muted);font-size:.9rem;margin:0 0 .6rem;line-height:1.45;max-width:80ch}
.mr-chip{display:inline-block;white-space:nowrap;font-weight:600;font-size:.84rem;padding:.1rem .5rem;border-radius:5px;color:var(--c);background:color-mix(in srgb,var(--c) 12%,transparent)}
.mr-v-representative{--c:var(--good)}.mr-v-optimistic{--c:var(--optimistic)}.mr-v-pessimistic{--c:var(--pessimistic)}
.mr-v-untested{--c:var(--missing)}.mr-v-inconclusive,.mr-v-unvisited{--c:var(--unsure)}
.mr-method{font-size:.74rem;font-weight:650;letter-spacing:.03em;color:var(--muted);margin-right:.45rem}
.mr-route{font-weight:600;overflow-wrap:anywhere}
.mr-scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px}
.mr-table{border-collapse:collapse;width:100%;font-size:.92rem;margin:0!important}
.mr-table th{text-align:left;font-weight:500;color:var(--muted);font-size:.8rem;padding:.42rem .7rem;border:0;border-bottom:1px solid var(--line);background:var(--raised);white-space:nowrap}
.mr-table td{padding:.42rem .7rem;border:0;border-top:1px solid var(--line);vertical-align:middle;color:var(--ink)}
.mr-table tbody tr:first-child td{border-top:0}
.mr-table .num{text-align:right;white-space:nowrap}
.mr-table .nowrap{white-space:nowrap}
.mr-table .ep{min-width:200px}.mr-table td.ep small{margin-left:.4rem}.mr-table .need{min-width:170px;max-width:240px;font-size:.84rem;color:var(--muted);line-height:1.35}
.mr-table .num small{display:block}
.mr-pair{display:flex;align-items:center;gap:.6rem;white-space:nowrap;font-variant-numeric:tabular-nums}
.mr-table td small,.mr-small{color:var(--muted);font-size:.82rem}
.mr-table a{color:inherit;text-decoration:none}
.mr-links tbody tr{position:relative}.mr-links tbody tr:hover td{background:var(--raised)}
.mr-links a.mr-go::after{content:"";position:absolute;inset:0}
.mr-links a.mr-go:hover .mr-route,.mr-table a.mr-plain:hover{text-decoration:underline}
.mr-table a.mr-plain{color:var(--link)}
a.mr-go:focus-visible,.mr-wf summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.mr-iv{position:relative;display:inline-block;width:112px;height:18px;vertical-align:middle}
.mr-iv i{position:absolute}
.mr-iv-band{top:1px;bottom:1px;background:color-mix(in srgb,var(--good) 16%,transparent);border-radius:2px}
.mr-iv-one{left:50%;top:1px;bottom:1px;width:1px;background:var(--muted);opacity:.6}
.mr-iv-line{top:8px;height:3px;min-width:3px;background:var(--c);opacity:.6;border-radius:2px}
.mr-iv-dot{top:5px;width:9px;height:9px;margin-left:-4.5px;border-radius:50%;background:var(--c)}
.mr-strip{display:flex;gap:2px;height:10px;margin:1rem 0 .55rem;border-radius:5px;overflow:hidden}
.mr-strip i{background:var(--c);min-width:4px}
.mr-legend{display:flex;flex-wrap:wrap;gap:.35rem .6rem;margin:0 0 .2rem;font-size:.9rem}
.mr-legend b{font-variant-numeric:tabular-nums}
.mr-cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:.7rem}
.mr-card{border:1px solid var(--line);border-left:3px solid var(--c,var(--line));border-radius:8px;padding:.65rem .9rem;background:var(--ground)}
.mr-card h4{margin:0 0 .25rem;padding:0;font-size:.97rem;font-weight:650;color:var(--ink);line-height:1.35;overflow-wrap:anywhere}
.mr-card p{margin:.18rem 0 0;font-size:.86rem;color:var(--muted);line-height:1.4;font-variant-numeric:tabular-nums}
.mr-card a{color:var(--link);text-decoration:none;font-weight:600}.mr-card a:hover{text-decoration:underline}
.mr-card .mr-small{display:block;margin-top:.35rem}
.mr-fold{margin:.5rem 0 0}.mr-fold>summary{cursor:pointer;font-size:.92rem;color:var(--ink);padding:.35rem .2rem;border-radius:6px}
.mr-fold>summary:hover{background:var(--raised)}.mr-fold>:not(summary){margin-top:.4rem}
.mr-sev-critical{--c:var(--optimistic)}.mr-sev-warning{--c:var(--synthetic)}.mr-sev-info{--c:var(--accent)}
.mr-meter{margin:.1rem 0 .85rem}
.mr-meter div{font-size:.92rem;color:var(--muted)}
.mr-meter div b{font-variant-numeric:tabular-nums;font-size:1.25rem;font-weight:650;color:var(--ink);margin-right:.15rem}
.mr-meter span{display:block;height:8px;border-radius:4px;background:var(--line);overflow:hidden;margin-top:.3rem}
.mr-meter span i{display:block;height:100%;background:var(--production)}
.mr-facts{padding:0!important;display:flex;flex-wrap:wrap;gap:.5rem 2rem;margin:.9rem 0 .4rem}
.mr-facts dt{color:var(--muted);font-size:.8rem;font-weight:400}
.mr-facts dd{margin:0;font-size:1.02rem;font-weight:600;color:var(--ink)}
.mr-why{border-left:3px solid var(--c);padding:.1rem 0 .1rem .9rem;margin:.8rem 0 .2rem;max-width:92ch}
.mr-why p{margin:.25rem 0;font-size:.97rem;line-height:1.5;color:var(--ink)}
.mr-notice{border:1px solid var(--line);background:var(--raised);border-radius:8px;padding:.7rem .95rem;margin:.5rem 0;color:var(--ink);font-size:.93rem;line-height:1.5}
.mr-notice code,.mr-lead code,.mr-sub code{background:color-mix(in srgb,var(--muted) 16%,transparent);color:var(--ink);padding:.05rem .35rem;border-radius:4px;font-size:.88em}
.mr-n-error{border-left:3px solid var(--error)}.mr-n-warn{border-left:3px solid var(--synthetic)}.mr-n-info{border-left:3px solid var(--accent)}
.mr-source{font-size:.82rem;font-weight:600;white-space:nowrap}
.mr-source::before{content:"";display:inline-block;width:1.3rem;margin-right:.4rem;vertical-align:middle;border-top:2.5px solid var(--s)}
.mr-key{display:flex;gap:1.1rem;align-items:center;margin:0 0 -.4rem;color:var(--ink)}
.mr-s-production{--s:var(--production)}.mr-s-synthetic{--s:var(--synthetic)}.mr-s-suspected{--s:var(--unsure)}
.mr-s-synthetic::before{border-top-style:dashed}
.mr-brand{font-weight:700;font-size:1.12rem;letter-spacing:-.01em;color:var(--ink);margin:0 0 .1rem}
.mr-brand a{color:inherit;text-decoration:none}
.mr-viewer{font-size:.86rem;color:var(--muted);line-height:1.45;margin:0 0 .4rem}
.mr-viewer a{color:var(--link)}.mr-viewer b{color:var(--ink);font-weight:600}
.mr-wf{border:1px solid var(--line);border-radius:8px;overflow:hidden;font-size:.88rem}
.mr-wf-row,.mr-wf-axis{display:grid;grid-template-columns:minmax(200px,34%) 1fr 84px 84px;align-items:center;column-gap:.6rem;padding:0 .7rem}
.mr-wf-axis{background:var(--raised);color:var(--muted);font-size:.78rem;height:2rem;border-bottom:1px solid var(--line)}
.mr-wf-axis>:last-child,.mr-wf-self{text-align:right}
.mr-wf details{border-top:1px solid color-mix(in srgb,var(--line) 60%,transparent)}
.mr-wf details:first-of-type{border-top:0}
.mr-wf summary{list-style:none;cursor:pointer;min-height:1.95rem}
.mr-wf summary::-webkit-details-marker{display:none}
.mr-wf summary:hover,.mr-wf details[open]>summary{background:var(--raised)}
.mr-wf-name{overflow:hidden;white-space:nowrap;text-overflow:ellipsis;color:var(--ink)}
.mr-wf-name b{font-weight:600}.mr-wf-name small{color:var(--muted);font-size:.78rem;margin-left:.35rem}
.mr-wf-name i.dot{display:inline-block;width:.6rem;height:.6rem;border-radius:2px;margin-right:.45rem;background:var(--k)}
.mr-wf-track{position:relative;height:1.95rem;background-image:linear-gradient(to right,var(--line) 1px,transparent 1px);background-size:25% 100%}
.mr-wf-track i{position:absolute}
.mr-wf-bar{top:.55rem;height:.8rem;min-width:2px;border-radius:2px;background:var(--k)}
.mr-wf-error .mr-wf-bar{outline:2px solid var(--error);outline-offset:1px}
.mr-wf-crit{top:1.5rem;height:3px;min-width:2px;background:var(--ink)}
.mr-wf-self{color:var(--muted);font-size:.8rem;font-variant-numeric:tabular-nums}
.mr-wf-dur{color:var(--ink)}.mr-wf-err{color:var(--error);font-weight:650;font-size:.8rem;margin-left:.35rem}
.mr-wf-more{padding:.4rem .9rem 1rem 1.6rem;background:var(--raised)}
.mr-wf-more table{border-collapse:collapse;font-size:.85rem;margin:.3rem 0}
.mr-wf-more td{border:0;padding:.14rem 1.4rem .14rem 0;color:var(--ink);overflow-wrap:anywhere;vertical-align:top}
.mr-wf-more td:first-child{color:var(--muted);white-space:nowrap}
.mr-wf-more h5{margin:.6rem 0 0;padding:0;font-size:.82rem;font-weight:650;color:var(--ink)}
.mr-wf-tick{position:relative;height:100%}.mr-wf-tick i{position:absolute;font-style:normal;top:.45rem;white-space:nowrap;transform:translateX(-50%)}
.mr-wf-tick i:first-child{transform:none}.mr-wf-tick i:last-child{transform:translateX(-100%)}
.mr-foot{color:var(--muted);font-size:.86rem;margin-top:1.6rem;border-top:1px solid var(--line);padding-top:.7rem;line-height:1.5}
"""


def css(colours: Palette) -> str:
    """Return the style element of one palette."""
    names = (
        "ground", "raised", "ink", "muted", "line", "accent", "link", "production", "synthetic",
        "good", "optimistic", "pessimistic", "unsure", "missing", "error",
    )  # fmt: skip
    variables = ";".join(f"--{name}:{getattr(colours, name)}" for name in names)
    return f"<style>:root{{{variables}}}{_RULES}</style>"
