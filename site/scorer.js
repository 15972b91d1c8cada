// The search ranks as Sphinx does, but lists a notebook before its exercises, and these before their solutions.
var Scorer = {
  score: ([docname, , , , score]) =>
    score - (docname.startsWith("exercises/") ? 20 : docname.startsWith("solutions/") ? 30 : 0),
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 15, 1: 5, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
