// What deploy/grafana/recorder.json has to be: a dashboard of rows and time series that ask Prometheus.
import type { Dashboard, DataQuery, FieldConfigSource, GraphFieldConfig, Panel, RowPanel } from '@grafana/schema';
import type { Options } from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts';

type Query = DataQuery & { expr: string; legendFormat?: string };
type TimeSeries = Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: 'timeseries';
  options: Options;
  fieldConfig: FieldConfigSource<Partial<GraphFieldConfig>>;
  targets: Query[];
};
type OurDashboard = Omit<Dashboard, 'panels'> & { panels: (TimeSeries | RowPanel)[] };

// In JSON, enumerations are written as their values.
type InJSON<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: InJSON<T[K]> } : T;

