import { defineConfig } from "prisma/config";

export default defineConfig({
  schema: "schema",
  // `prisma migrate` neither makes, changes nor drops what belongs to `heist migrate`.
  experimental: { externalTables: true },
  tables: {
    external: [
      "public.Heist",
      "public.HeistArchiveFile",
      "public.HeistArchiveTotal",
      "public.HeistEmailProvider",
      "public.HeistNotification",
      "public.HeistNotificationPreference",
      "public.HeistRevertNote",
      "public.HeistSecret",
      "public.HeistToken",
      "public.HeistTokenAdjustment",
      "public.HeistTokenAward",
      "public._heist_migrations",
    ],
  },
  enums: { external: ["public.HeistEmailPreference", "public.HeistEmailState", "public.HeistNotificationType"] },
});
