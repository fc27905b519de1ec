"use strict";
// The page: that it shows the signed figures, each in its place, and nothing besides that could be taken for one.

// What a report is made of: nothing that shows text or pictures which are no text of the page.
const words = (text) => new Set(text.split(" "));
const TAGS = words("header main footer section nav div p span bdi h1 h2 h3 h4 a ol ul li dl dt dd strong code pre table caption thead "
  + "tbody tfoot tr th td details summary figure figcaption svg title desc rect line polyline text script");
const FORM_TAGS = words("form label textarea input p button code");
const ATTRIBUTES = words("class id href scope tabindex role aria-label aria-labelledby open data-figure data-unsigned type");
const FORM_ATTRIBUTES = words("class id type for rows spellcheck autocomplete autocapitalize aria-describedby multiple disabled hidden");

// Where it says that something is of the ledger and not signed: there alone numbers may stand that nobody signed.
const UNSIGNED = "body > footer, main > section > div.unsigned, nav li > span.quiet, .verdict > p.quiet > bdi";
const NOTE = "From the ledger, not signed", STYLE = "STYLE_SHA256";
// Of the page's fixed words those that hold a digit.
const FIXED = /Ed25519|C2SP|RFC 6962|sha256sum|SHA-256|^[123]\. (?=In this browser|With the program|With other people)/gu;
const NUMBER = /\p{N}/u;
const EXTENSION = "; where an extension of your browser put it there, a private window will tell";

async function requireOwnForm() {
  const head = [...document.head.children], styles = head.filter((element) => element.localName === "style");
  require(head.every((element) => ["meta", "title", "style"].includes(element.localName)) && document.title === "Consent report"
    && styles.length === 1 && document.documentElement.children.length === 2, `the page has another head than a report has${EXTENSION}`);
  require(hex(await sha256(utf8(styles[0].textContent))) === STYLE, `the page has another style than a report has${EXTENSION}`);
  const form = $("check-form");
  for (const element of document.body.querySelectorAll("*")) {
    const [tags, attributes] = form.contains(element) ? [FORM_TAGS, FORM_ATTRIBUTES] : [TAGS, ATTRIBUTES];
    require(tags.has(element.localName), `the page has an element that no report has: ${element.localName}${EXTENSION}`);
    if (element.closest("svg")) continue;
    for (const { name, value } of element.attributes) {
      const good = attributes.has(name) && !(name === "aria-label" && NUMBER.test(value)) && (name !== "href" || value.startsWith("#"));
      require(good, `the page has an attribute that no report has: ${name}${EXTENSION}`);
    }
  }
  require(document.body.attributes.length === 0 && [...document.documentElement.attributes].every(({ name }) => name === "lang"), `the page has an attribute that no report has${EXTENSION}`);
  for (const element of document.querySelectorAll("[data-unsigned]")) {
    const parent = element.parentElement, note = element.querySelector(":scope > h3 + .unsigned-note");
    const says = element.matches("div") ? note?.textContent === NOTE : !element.matches("bdi") || parent.firstChild.data === "Folder ";
    require(element.matches(UNSIGNED) && says, "the page passes over something that it does not say is not signed");
  }
}

// The names of all figures as they follow each other: one that is signed, but stands for another, is none.
function order({ runs, purposes }) {
  const found = [], many = runs.length > 1;
  const put = (prefix, ...names) => found.push(...names.map((name) => `${prefix}.${name}`));
  const title = ({ said }) => put(`purpose.${purposes.findIndex(({ act }) => `${act.token}@${act.version}` === said.purpose)}`, "title");
  if (many) put("all", "rows_kept", "rows_in", "runs", "shards", "rows_dropped", "share_kept");
  runs.forEach((run, at) => {
    title(run);
    if (many) put(`run.${at}`, "rows_kept", ...(run.kind === RUN ? ["rows_in"] : []), "decided_at");
  });
  runs.forEach((run, at) => {
    const { said } = run, isRun = run.kind === RUN, of = (...names) => put(`run.${at}`, ...names);
    if (many) {
      of("number");
      title(run);
    }
    of("rows_kept", ...(isRun ? ["rows_in", "decided_at", "rows_dropped", "share_kept"] : ["decided_at"]), "as_of", "age", "max_age");
    if (has(said, "recipient")) of("recipient");
    (said.warnings ?? []).forEach((_, number) => of(`warning.${number}`));
    if (isRun) of("rows_kept", ...DROPPED.filter((reason) => has(said.rows_dropped, reason)).map((reason) => `dropped.${reason}`), "rows_in");
    if (isRun && said.unmapped) of("unmapped");
    of(...BASES.filter((basis) => has(said.rests_on, basis)).reverse().map((basis) => `rests_on.${basis}`), "shards");
    run.shards.forEach((_, number) => put(`run.${at}.shard.${number}`, "name", ...(isRun ? ["rows_in"] : []), "rows_kept", "sha256"));
    of("id", "finished_at", "purpose", "origin", "position", "checkpoint_size", "tree_size", "snapshot_sha256", "answers_sha256");
    of(...(isRun ? ["unmapped"] : []), "set_root");
  });
  purposes.forEach(({ act }, at) => {
    const of = (...names) => put(`purpose.${at}`, ...names);
    of("title", "description", ...["controller", "contact", "retention", "withdraw_url"].filter((name) => has(act, name)));
    (act.recipients ?? []).forEach((_, number) => of(`recipient.${number}`));
    (act.categories ?? []).forEach((_, number) => of(`category.${number}`));
    of("basis", "reference", "declared_at");
  });
  return found;
}

// Elements that say a figure say what was verified, in their order, and nothing else in the signed parts is a number.
function requireFigures(expected, names) {
  const elements = [...document.querySelectorAll("[data-figure]")];
  elements.forEach((element, at) => {
    const name = element.dataset.figure;
    require(expected.has(name), `the page shows a figure that no statement has: ${name}`);
    require(element.textContent === expected.get(name), `the page shows “${element.textContent.slice(0, 80)}” for ${name}, and the signed statement says “${expected.get(name).slice(0, 80)}”`);
    require(name === names[at], `the page shows ${name} where ${names[at] ?? "nothing"} belongs`);
    require(element.childElementCount === 0 && !element.closest(".unseen, svg, [data-unsigned], #checking"), `the page does not show a figure as it is: ${name}`);
  });
  require(elements.length === names.length, `the page does not show a figure of the signed statement: ${names[elements.length]}`);
  const shown = new Set(names);
  for (const name of expected.keys()) require(shown.has(name), `the page does not show a figure of the signed statement: ${name}`);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const said = walker.currentNode.data, parent = walker.currentNode.parentElement;
    if (!NUMBER.test(said.replace(FIXED, "")) || parent.closest("script, [data-figure], [data-unsigned]")) continue;
    if (parent.matches("#checking > pre") && /^consent verify .* --trust trust$/su.test(said)) continue;
    throw new Refused(`the page shows a number that no statement signs: “${said.trim().slice(0, 80)}”`);
  }
}

// A bar is as long as its figure is a part of the whole, and the only picture of what is signed.
function requireBars(expected) {
  const number = (name) => Number((expected.get(name) ?? "?").replaceAll(",", ""));
  const ofRun = (name) => name.split(".")[1];
  for (const picture of document.querySelectorAll("svg")) {
    if (picture.closest("[data-unsigned]")) continue;
    const bar = picture.firstElementChild, { part, whole: all } = bar?.dataset ?? {};
    require(part && all && bar.localName === "rect" && picture.childNodes.length === 1, "the page has a picture that no report has");
    const whole = number(all), length = whole ? (100 * number(part)) / whole : 0, width = bar.getAttribute("width");
    const row = bar.closest("tr")?.querySelector(`td [data-figure="${CSS.escape(part)}"]`);
    require(row && ofRun(all) === ofRun(part) && Math.abs(Number(width) - length) < 0.02, `a bar of a chart is not as long as its figure: ${part}`);
    const kind = part.endsWith(".rows_kept") ? "kept" : part.includes(".dropped.") ? "dropped" : "basis";
    const as = document.createElement("td");
    as.innerHTML = '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect height="10"/></svg>';
    for (const [key, value] of Object.entries({ class: kind, "data-part": part, "data-whole": all, width })) as.firstChild.firstChild.setAttribute(key, value);
    require(as.firstChild.isEqualNode(picture), `a bar of a chart is drawn otherwise than its figure: ${part}`);
  }
}
