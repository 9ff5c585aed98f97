import { OptionDefaults } from "typedoc";

export default {
  entryPoints: ["src/index.ts"],
  out: "docs",
  readme: "none",
  disableSources: true,
  // Each generated declaration says what it is generated from.
  blockTags: [...OptionDefaults.blockTags, "@generated"],
  excludeTags: ["@generated"],
  treatWarningsAsErrors: true,
};
